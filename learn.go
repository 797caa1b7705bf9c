package rollingupgrade

import (
	"errors"
	"math"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// PhaseTime is how long a phase of an update has been seen to take in a task. It is kept with the
// task, so that a Runner that takes over need not learn again.
type PhaseTime struct {
	// N counts the instances, Min and Mean are of their times. Where these vary and the first look often finds instances done, Min is
	// taken down, since it was less for some than anybody saw.
	N    int           `json:"n"`
	Min  time.Duration `json:"min"`
	Mean time.Duration `json:"mean"`
	// Not is a time after which the phase was not over yet; it is shorter than Min. The truth about the fastest lies in between.
	Not time.Duration `json:"not,omitempty"`
}

// How waiting is learnt. Looks cost calls, and instances that have come to an end unseen are out of service for nothing: the constants say
// what one is worth in terms of the other.
const (
	lookWorth  = 0.47                   // the time lost unseen, as a share of each instance's own time and summed up, for which a look is worth its call
	fewRows    = 100                    // with fewer instances a look is worth its call for as much less, so that each one loses as little
	mostLost   = 0.05                   // no instance waits longer for a look than this share of its own time,
	mostFew    = 0.2                    // and with fewer instances less: to this power of their share of fewRows
	manyLost   = 7                      // how much more of it may be lost while all are at work: the batch takes as long as the last ones
	firstLost  = 0.025                  // the same while nothing is known of a phase, in the only batch, of fewRows,
	firstFew   = 0.1                    // with fewer instances less: to this power of their share of fewRows,
	firstMore  = 0.2                    // and more where more batches profit: to this power of their number
	soonest    = 250 * time.Millisecond // between two looks, where it is known when the end comes
	slack      = 60 * time.Millisecond  // a look takes its time, and the pages of its answer are not of one moment
	nearly     = 0.01                   // brackets are not made narrower than this share
	broadFrom  = 1.3                    // times vary if their mean is so many times the least
	broadN     = 5                      // and so many are known
	hasten     = 0.1                    // the least is so much less if the first look at a batch finds all of it done
	alike      = 1.05                   // where it is no more than so many times the least, they take the same
	fewCalls   = 4                      // rows that need more calls to be looked at are not all looked at while nothing is known,
	scoutParts = 4                      // but some from so many parts of the batch
	alikeN     = 3                      // as soon as so many are known
)

// learn notes how long the row's phase took, as seen by a call of that time, and that the next one begins.
func (m *machine) learn(i *Instance, next string, at time.Time) {
	t := m.track(i)
	if t.phase != "" && !t.guessed {
		d := at.Sub(t.since)
		if m.t.Learned == nil {
			m.t.Learned = map[string]PhaseTime{}
		}
		l, seen := m.t.Learned[t.phase]
		if seen && t.not == 0 && l.broad() { // over at the first look: the fastest are faster than was seen
			l.Min -= time.Duration(hasten * float64(l.Min) / float64(max(1, len(m.batch(i.Batch)))))
			l.Not = min(l.Not, l.Min)
		}
		if !seen || d < l.Min {
			if l.Not >= d { // this one is faster than all before, or the answer was a mixed one
				l.Not = d * 9 / 10
			}
			l.Min, l.Not = d, max(l.Not, min(t.not, d))
		}
		l.N++
		l.Mean += (d - l.Mean) / time.Duration(l.N)
		now := m.t.Learned[t.phase]
		m.told = m.told || l.clear() && (!now.clear() || l.same() && l.Min < now.Min)
		m.t.Learned[t.phase] = l
		m.shared = m.shared && l.clear()
		m.touchHead()
	}
	t.phase, t.since, t.guessed, t.not, t.shares = next, at, false, 0, false
}

// broad reports whether instances take times of their own.
func (l PhaseTime) broad() bool {
	return l.N >= broadN && float64(l.Mean) > broadFrom*float64(l.Min)
}

// least is when the fastest of all may be done: the fastest of those that were seen is not.
func (l PhaseTime) least() time.Duration {
	return time.Duration(float64(l.Min) * float64(l.N) / float64(l.N+2))
}

// clear reports whether it is known well enough how long the phase takes; until then a few are looked at for all, see [machine.scouts].
func (l PhaseTime) clear() bool { return l.same() || l.broad() }

// same reports whether all instances seem to take the same time.
func (l PhaseTime) same() bool {
	return !l.broad() && (l.N >= broadN || l.N >= alikeN && float64(l.Mean) <= alike*float64(l.Min))
}

// first is when the first look at an instance is worth it, for phases that take all instances the same time: when the fastest was
// seen to be done, or, as long as that is not known well, half way to when it was seen not to be.
func (l PhaseTime) first(waited time.Duration) time.Duration {
	if half := l.Not + (l.Min-l.Not)/2; half > waited && l.Min-l.Not > max(200*time.Millisecond, time.Duration(nearly*float64(l.Min))) {
		return half
	}
	return l.sure()
}

// sure is when an instance is done if it takes as long as the fastest was seen to take.
func (l PhaseTime) sure() time.Duration { return l.Min + slack + l.Min/500 }

// scout reports whether the k-th of a batch's n rows is one that is looked at for all while it is not known how long a phase takes. They are as many
// as one call takes, or a few at least, from all parts of the batch, since neighbors may be alike. The others wait for what is seen of them, though
// no longer than Config.MaxWait. Where a few calls take all rows, all are looked at.
func (m *machine) scout(k, n int) bool {
	part := n / scoutParts
	return !m.many(n) || k%part < m.scoutsOfAPart() && k < scoutParts*part
}

// scoutsOfAPart is how many of them come from each part: enough that what is known does not depend on a slow one.
func (m *machine) scoutsOfAPart() int { return max(broadN, m.env.limits.Update/scoutParts) }

// many reports whether n rows are too many to be all looked at.
func (m *machine) many(n int) bool {
	return m.env.limits.Update > 0 && n > fewCalls*scoutParts*m.scoutsOfAPart()
}

// tell plans the looks at those who waited for what is seen of others, once that is known or known better.
func (m *machine) tell(rows []Instance) {
	if !m.told {
		return
	}
	m.told, m.shared = false, false
	first := m.at(&rows[0])
	for n := range rows {
		t := &m.mem[first+n]
		l := m.t.Learned[t.phase]
		if m.scout(n, len(rows)) || rows[n].Status != InstanceRunning || t.busy || t.phase == "" || t.not > l.Min || !l.same() || t.tries > 0 {
			continue
		}
		at := later(t.since, l.sure())
		if at.Before(t.notBefore) {
			at = t.notBefore
		}
		if at.Before(t.nextAt) {
			t.nextAt, t.shares = at, false
			m.due[first+n] = at.UnixNano()
		}
	}
}

// scheduleLook plans when to ask for the row's update again, after a call has shown that it goes on.
func (m *machine) scheduleLook(i *Instance, p *provider.Progress, c *call) {
	t, at := m.track(i), c.at
	unknown := t.phase == "" && !c.acts() // another process has seen it begin
	if p.Phase != t.phase {
		m.learn(i, p.Phase, at)
	}
	if unknown {
		t.since, t.guessed = or(i.ActedAt, i.StepSince), i.ActedAt.IsZero()
	}
	if t.since.IsZero() { // an update without phases, whose beginning another process has seen
		t.since, t.guessed = at, true
	}
	if p.Act {
		t.nextAt, t.shares = m.now, false
		return
	}
	waited := at.Sub(t.since)
	t.not = waited
	t.notBefore = m.now.Add(p.Wait)
	l, known := m.t.Learned[t.phase]
	if known && waited < l.Min && l.same() {
		if waited > l.Not {
			l.Not = waited
			m.t.Learned[t.phase] = l
			m.touchHead()
		}
		t.nextAt, t.shares = later(t.since, l.sure()), false
		if rows := m.batch(i.Batch); m.scout(m.at(i)-m.at(&rows[0]), len(rows)) {
			t.nextAt = later(t.since, l.first(waited))
		}
		if soon := m.now.Add(min(p.Wait, soonest)); t.nextAt.Before(soon) {
			t.nextAt = soon
		}
		if most := m.now.Add(m.env.poll); t.nextAt.After(most) { // what was learnt may be wrong for this one
			t.nextAt = most
		}
		return
	}
	t.shares, m.shared = true, false
	t.nextAt = m.now.Add(m.env.poll) // until shareLooks has planned it
}

// shareLooks plans the next look at all instances of the batch whose end cannot be known beforehand. They share looks: one call takes many, so
// that it is better to look at all of them now and then than at each one at its time.
func (m *machine) shareLooks(rows []Instance) {
	if m.shared {
		return
	}
	m.shared, m.scouted = true, false
	first := m.at(&rows[0])
	all := make([]awaited, 0, len(rows))
	waiting, scouts := map[string]int{}, map[string]int{} // rows in phases of which too little is known
	for n := range rows {
		if t := &m.mem[first+n]; rows[n].Status == InstanceRunning && t.shares && t.phase != "" && !m.t.Learned[t.phase].clear() {
			waiting[t.phase]++
			if m.scout(n, len(rows)) {
				scouts[t.phase]++
			}
		}
	}
	// What is lost adds up over the phases of an update.
	var whole time.Duration // what an instance is expected to take
	for _, l := range m.t.Learned {
		whole += l.Mean
	}
	small := min(1, float64(len(rows))/fewRows)
	early := firstLost * math.Pow(small, firstFew) * math.Pow(float64(len(m.t.Sizes)), firstMore)
	tail := mostLost * math.Pow(small, mostFew) / math.Sqrt(float64(max(1, len(m.t.Learned)))) * (1 + manyLost*float64(m.tally.running-1)/float64(len(rows)+9))
	for n := range rows {
		i, t := &rows[n], &m.mem[first+n]
		if i.Status != InstanceRunning || !t.shares {
			continue
		}
		// With its answer more is known; and while a rate holds one back, looks at the others would take the calls that it waits for.
		if t.busy || t.tries > 0 && errors.Is(t.last, provider.ErrThrottled) {
			m.shared = false
			return
		}
		if !t.nextAt.After(m.now) || t.tries > 0 { // its look is due, or is tried again in its own time
			continue
		}
		l, known := m.t.Learned[t.phase]
		stands := 1. // so many rows
		if m.many(waiting[t.phase]) && scouts[t.phase] >= m.scoutsOfAPart() {
			if !m.scout(n, len(rows)) {
				m.scouted = true // others are looked at for it
				continue
			}
			stands = float64(waiting[t.phase]) / float64(scouts[t.phase])
		}
		waited := m.now.Sub(t.since)
		own := max(time.Second, whole, m.now.Sub(i.AttemptSince)) // what it takes
		from := t.not - waited                                    // when it may have come to an end, from now on: after the last look at it
		lost, residual := early/stands, max(time.Second, waited)
		latest := m.env.poll + t.not - waited // from now on; what is planned anew and again comes at the same time
		switch {
		case l.broad():
			lost, residual = tail, max(time.Second, l.Mean-waited, waited*2/5)
			from = max(from, l.least()-waited)
		case known: // others took so long
			if after := later(t.since, l.Min+slack).Sub(m.now); after > 0 {
				latest = min(latest, after)
			}
		}
		advised := max(t.notBefore.Sub(m.now), min(time.Second, m.env.poll)+t.not-waited)
		latest = max(advised, min(latest, from+time.Duration(lost*float64(own))))
		all = append(all, awaited{
			i: i, t: t, from: from, advised: advised, latest: latest, clear: l.clear(), weight: stands / residual.Seconds() / own.Seconds() / 2,
		})
	}
	worth, limit := lookWorth*math.Pow(small, 1.3), or(m.env.limits.Update, len(rows))
	if len(all) <= limit { // one call takes all
		m.planLook(all, worth)
		return
	}
	// Those of whose phases too little is known are looked at at short intervals: the others do not go along.
	var known, unknown []awaited
	for _, a := range all {
		if a.clear {
			known = append(known, a)
		} else {
			unknown = append(unknown, a)
		}
	}
	for _, some := range [][]awaited{known, unknown} {
		m.planLook(some, worth*math.Ceil(float64(len(some))/float64(limit)))
	}
}

// planLook plans the next look at all of some instances, worth so much.
func (m *machine) planLook(all []awaited, worth float64) {
	latest, earliest := m.env.poll, m.env.poll
	for n := range all {
		latest, earliest = min(latest, all[n].latest), min(earliest, all[n].advised)
	}
	var after time.Duration
	for lo, hi := time.Duration(0), latest; hi-lo > 50*time.Millisecond; {
		half := lo + (hi-lo)/2
		if lostBy(all, half) < worth {
			lo = half
		} else {
			hi = half
		}
		after = hi
	}
	after = max(after, earliest)
	for n := range all {
		t := all[n].t
		t.nextAt = m.now.Add(max(after, all[n].advised)) // unless the next look at the others takes it along
		m.due[m.at(all[n].i)] = t.nextAt.UnixNano()
	}
}

// An awaited instance is one that shares looks.
type awaited struct {
	i       *Instance
	t       *track
	from    time.Duration // it may come to an end from then on
	advised time.Duration // and a look at it is worth it
	latest  time.Duration // it is to be looked at
	clear   bool          // it is known how long its phase takes
	weight  float64       // of the square of the seconds after from, in what is lost
}

// lostBy is the time lost unseen that a look after d would end, as a share of each instance's own time.
func lostBy(all []awaited, d time.Duration) (lost float64) {
	for _, a := range all {
		if open := d - a.from; open > 0 && d >= a.advised {
			lost += a.weight * open.Seconds() * open.Seconds()
		}
	}
	return lost
}
