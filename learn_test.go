package rollingupgrade

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// learner returns a machine whose first batch has n instances at work in a phase that began so long ago.
func learner(n int, phase string, ago time.Duration) *machine {
	t := &Task{Head: Head{Status: StatusRunning, Batch: 1, Sizes: []int{n}}}
	for k := range n {
		t.Instances = append(t.Instances, Instance{ID: fmt.Sprintf("i-%04d", k), Pos: k, Batch: 1, Status: InstanceRunning, Step: Updating, Attempt: 1, AttemptSince: zeroHour.Add(-ago)})
	}
	m := newMachine(t, env{limits: provider.Limits{Update: 100}, poll: 2 * time.Minute}, zeroHour)
	for k := range n {
		m.mem[k].phase, m.mem[k].since, m.mem[k].shares = phase, zeroHour.Add(-ago), true
		m.mem[k].not, m.mem[k].nextAt = ago, zeroHour.Add(m.env.poll) // it was looked at just now
	}
	return m
}

func TestS16_LearntTimes(t *testing.T) {
	m := learner(1, "", 0)
	i, at := &m.t.Instances[0], zeroHour
	for n, c := range []struct {
		takes, not time.Duration
		want       PhaseTime
	}{
		{10 * time.Second, 0, PhaseTime{N: 1, Min: 10 * time.Second, Mean: 10 * time.Second}},
		{9 * time.Second, 8 * time.Second, PhaseTime{N: 2, Min: 9 * time.Second, Mean: 9500 * time.Millisecond, Not: 8 * time.Second}},
		{20 * time.Second, 19 * time.Second, PhaseTime{N: 3, Min: 9 * time.Second, Mean: 13 * time.Second, Not: 8 * time.Second}},
		{9 * time.Second, 8500 * time.Millisecond, PhaseTime{N: 4, Min: 9 * time.Second, Mean: 12 * time.Second, Not: 8 * time.Second}},
		{8 * time.Second, 0, PhaseTime{N: 5, Min: 8 * time.Second, Mean: 11200 * time.Millisecond, Not: 7200 * time.Millisecond}}, // faster than what was thought to be too early
		{5200 * time.Millisecond, 6 * time.Second, PhaseTime{N: 6, Min: 5200 * time.Millisecond, Mean: 10200 * time.Millisecond, Not: 5200 * time.Millisecond}},
		{17200 * time.Millisecond, 16 * time.Second, PhaseTime{N: 7, Min: 5200 * time.Millisecond, Mean: 11200 * time.Millisecond, Not: 5200 * time.Millisecond}},
		{11200 * time.Millisecond, 0, PhaseTime{N: 8, Min: 4680 * time.Millisecond, Mean: 11200 * time.Millisecond, Not: 4680 * time.Millisecond}}, // they vary, and the first look came too late
	} {
		m.learn(i, "stopping", at)
		m.mem[0].not = c.not
		at = at.Add(c.takes)
		m.learn(i, "", at)
		if d := cmp.Diff(c.want, m.t.Learned["stopping"]); d != "" {
			t.Errorf("after %d: %s", n+1, d)
		}
	}
	if !m.dirtyHead {
		t.Error("what was learnt is not saved")
	}
	m.learn(i, "starting", at)
	m.mem[0].guessed = true
	m.learn(i, "", at.Add(time.Minute))
	if l, ok := m.t.Learned["starting"]; ok {
		t.Errorf("a guess was learnt: %+v", l)
	}
}

// Where times vary, looks begin when the fastest may be done. If the first look finds instances done, they begin earlier next time, by so
// much more as they are many: otherwise nobody would ever see that some are faster.
func TestS16_FirstLooksThatComeTooLate(t *testing.T) {
	for _, c := range []struct {
		n    int
		not  time.Duration
		want time.Duration
	}{
		{1, 0, 90 * time.Second}, {4, 0, 97500 * time.Millisecond}, {100, 0, 99900 * time.Millisecond}, {1, 101 * time.Second, 100 * time.Second},
	} {
		m := learner(c.n, "p", 120*time.Second)
		m.t.Learned = map[string]PhaseTime{"p": {N: 9, Min: 100 * time.Second, Mean: 200 * time.Second}}
		m.mem[0].not = c.not
		m.learn(&m.t.Instances[0], "", zeroHour)
		if l := m.t.Learned["p"]; l.Min != c.want {
			t.Errorf("batch of %d, not over at %s: least is %s, want %s", c.n, c.not, l.Min, c.want)
		}
	}
}

func TestS16_TimesThatVary(t *testing.T) {
	for _, c := range []struct {
		n           int
		least, mean time.Duration
		broad, same bool
	}{
		{4, 10 * time.Second, 20 * time.Second, false, false},
		{5, 10 * time.Second, 13 * time.Second, false, true},
		{5, 10 * time.Second, 13*time.Second + 1, true, false},
		{50, 10 * time.Second, 12 * time.Second, false, true},
		{4, 10 * time.Second, 12 * time.Second, false, false},
		{2, 10 * time.Second, 10 * time.Second, false, false},
		{3, 10 * time.Second, 10500 * time.Millisecond, false, true},
		{3, 10 * time.Second, 10501 * time.Millisecond, false, false},
	} {
		l := PhaseTime{N: c.n, Min: c.least, Mean: c.mean}
		if l.broad() != c.broad || l.same() != c.same {
			t.Errorf("%+v: broad %v, same %v", c, l.broad(), l.same())
		}
	}
}

func TestS16_FirstLookWhereAllTakeTheSame(t *testing.T) {
	known := 10*time.Second + 60*time.Millisecond + 20*time.Millisecond
	for _, c := range []struct{ min, not, waited, want time.Duration }{
		{10 * time.Second, 6 * time.Second, 0, 8 * time.Second},
		{10 * time.Second, 6 * time.Second, 7 * time.Second, 8 * time.Second},
		{10 * time.Second, 6 * time.Second, 8 * time.Second, known},
		{10 * time.Second, 9700 * time.Millisecond, 0, 9850 * time.Millisecond},
		{10 * time.Second, 9800 * time.Millisecond, 0, known}, // as well known as it needs to be
		{100 * time.Second, 98900 * time.Millisecond, 0, 99450 * time.Millisecond},
		{100 * time.Second, 99 * time.Second, 0, 100*time.Second + 60*time.Millisecond + 200*time.Millisecond},
	} {
		if got := (PhaseTime{N: 9, Min: c.min, Not: c.not, Mean: c.min}).first(c.waited); got != c.want {
			t.Errorf("least %s, not after %s, waited %s: first look after %s, want %s", c.min, c.not, c.waited, got, c.want)
		}
	}
}

func TestS16_NextLookAfterAnAnswer(t *testing.T) {
	narrow := func(low, high time.Duration) map[string]PhaseTime {
		return map[string]PhaseTime{"starting": {N: 5, Min: high, Mean: high, Not: low}}
	}
	for _, c := range []struct {
		name     string
		learned  map[string]PhaseTime
		waited   time.Duration
		progress provider.Progress
		next     time.Duration // from now
		shares   bool
		not      time.Duration // as learnt
	}{
		{name: "it acts", waited: time.Second, progress: provider.Progress{Act: true}},
		{name: "nothing known", waited: time.Second, next: 2 * time.Minute, shares: true},
		{name: "too few known", learned: map[string]PhaseTime{"starting": {N: 2, Min: 40 * time.Second, Mean: 40 * time.Second}}, waited: time.Second, next: 2 * time.Minute, shares: true},
		{name: "they vary", learned: map[string]PhaseTime{"starting": {N: 5, Min: 40 * time.Second, Mean: 80 * time.Second}}, waited: time.Second, next: 2 * time.Minute, shares: true},
		{name: "longer than the least", learned: narrow(30*time.Second, 40*time.Second), waited: 40 * time.Second, next: 2 * time.Minute, shares: true, not: 30 * time.Second},
		{name: "half way", learned: narrow(30*time.Second, 40*time.Second), waited: 10 * time.Second, next: 25 * time.Second, not: 30 * time.Second},
		{name: "a look that was too early", learned: narrow(30*time.Second, 40*time.Second), waited: 36 * time.Second, next: 2 * time.Second, not: 36 * time.Second},
		{name: "not at once", learned: narrow(39900*time.Millisecond, 40*time.Second), waited: 39990 * time.Millisecond, progress: provider.Progress{Wait: time.Second}, next: 250 * time.Millisecond, not: 39990 * time.Millisecond},
		{name: "sooner if the provider says so", learned: narrow(39900*time.Millisecond, 40*time.Second), waited: 39990 * time.Millisecond, progress: provider.Progress{Wait: 100 * time.Millisecond}, next: 150 * time.Millisecond, not: 39990 * time.Millisecond},
		{name: "not for ever", learned: narrow(0, time.Hour), waited: time.Second, next: 2 * time.Minute, not: time.Second},
	} {
		m := learner(1, "starting", c.waited)
		m.t.Learned = c.learned
		m.mem[0].shares, m.shared = false, true
		c.progress.Phase = "starting"
		m.scheduleLook(&m.t.Instances[0], &c.progress, &call{op: opUpdate, at: zeroHour})
		k := m.mem[0]
		if got := k.nextAt.Sub(zeroHour); got != c.next {
			t.Errorf("%s: next look after %s, want %s", c.name, got, c.next)
		}
		if k.shares != c.shares || m.shared == c.shares {
			t.Errorf("%s: shares looks: %v, planned: %v", c.name, k.shares, m.shared)
		}
		if not := m.t.Learned["starting"].Not; not != c.not {
			t.Errorf("%s: known not to be over after %s, want %s", c.name, not, c.not)
		}
	}
}

// After a take-over the beginning of a phase is what the record says; where that is a guess, nothing is learnt from it.
func TestS16_PhaseThatAnotherProcessSawBegin(t *testing.T) {
	for _, acted := range []time.Time{{}, zeroHour.Add(-30 * time.Second)} {
		m := learner(1, "", 0)
		i := &m.t.Instances[0]
		i.StepSince, i.ActedAt = zeroHour.Add(-time.Minute), acted
		m.scheduleLook(i, &provider.Progress{Phase: "starting"}, &call{op: opUpdate, at: zeroHour})
		want := acted
		if acted.IsZero() {
			want = i.StepSince
		}
		if k := m.mem[0]; !k.since.Equal(want) || k.guessed != acted.IsZero() || k.not != zeroHour.Sub(want) {
			t.Errorf("acted at %s: since %s, guessed %v, not over after %s", acted, k.since, k.guessed, k.not)
		}
	}
}

func TestS16_SharedLooks(t *testing.T) {
	broad := map[string]PhaseTime{"p": {N: 100, Min: 10 * time.Second, Mean: time.Minute}}
	left := func(m *machine, some int) { // the others have gone on
		for n := some; n < len(m.t.Instances); n++ {
			m.t.Instances[n].Status = InstanceSucceeded
		}
		m.reindex()
		for n := range some {
			since := m.t.Instances[n].AttemptSince
			m.mem[n].phase, m.mem[n].since, m.mem[n].not, m.mem[n].shares, m.mem[n].nextAt = "p", since, zeroHour.Sub(since), true, zeroHour.Add(m.env.poll)
		}
	}
	only := func(m *machine) { left(m, 1) }
	later := func(m *machine, first int) { // the provider advises against an earlier look
		for n := first; n < len(m.mem); n++ {
			m.mem[n].notBefore = zeroHour.Add(20 * time.Second)
		}
	}
	for _, c := range []struct {
		name    string
		n       int
		waited  time.Duration
		learned map[string]PhaseTime
		change  func(m *machine)
		want    time.Duration
	}{
		// What is lost until a look after d seconds, summed up: n/residual * d²/2/own. It is worth 0.47, less in small batches.
		{name: "many", n: 100, waited: 20 * time.Second, learned: broad, want: 4756 * time.Millisecond},
		{name: "half as many", n: 50, waited: 20 * time.Second, learned: broad, want: 4309 * time.Millisecond},
		{name: "more calls", n: 100, waited: 20 * time.Second, learned: broad, change: func(m *machine) { m.env.limits.Update = 30 }, want: 9511 * time.Millisecond},
		{name: "no limit", n: 100, waited: 20 * time.Second, learned: broad, change: func(m *machine) { m.env.limits.Update = 0 }, want: 4756 * time.Millisecond},
		{name: "before the least", n: 100, waited: 4 * time.Second, learned: broad, want: 11410 * time.Millisecond},
		{name: "before the least of few", n: 100, waited: 4 * time.Second, learned: map[string]PhaseTime{"p": {N: 6, Min: 10 * time.Second, Mean: time.Minute}}, want: 9120 * time.Millisecond},
		{name: "long after the mean", n: 100, waited: 200 * time.Second, learned: broad, want: 12275 * time.Millisecond},
		{name: "the last one", n: 100, waited: 20 * time.Second, learned: broad, change: only, want: 3 * time.Second},
		{name: "half are left, for many calls", n: 100, waited: 20 * time.Second, learned: broad, change: func(m *machine) { left(m, 50); m.env.limits.Update = 10 }, want: 12440 * time.Millisecond},
		{
			name: "the last one of a longer update", n: 100, waited: 20 * time.Second, change: only, want: 6 * time.Second,
			learned: map[string]PhaseTime{"p": broad["p"], "q": broad["p"], "r": broad["p"], "s": broad["p"]},
		},
		{name: "nothing known", n: 100, waited: 100 * time.Second, change: only, want: 2500 * time.Millisecond},
		{name: "nothing known, and more batches follow", n: 100, waited: 100 * time.Second, change: func(m *machine) { only(m); m.t.Sizes = make([]int, 10) }, want: 3962 * time.Millisecond},
		{name: "nothing known in a small batch", n: 1, waited: 100 * time.Second, want: 1577 * time.Millisecond},
		{name: "not without rest", n: 100, waited: 10 * time.Second, want: time.Second},
		{name: "others took so long", n: 100, waited: 100 * time.Second, learned: map[string]PhaseTime{"p": {N: 2, Min: 102 * time.Second, Mean: 103 * time.Second}}, change: only, want: 2060 * time.Millisecond},
		{name: "others took less", n: 100, waited: 100 * time.Second, learned: map[string]PhaseTime{"p": {N: 2, Min: 99 * time.Second, Mean: 99 * time.Second}}, change: only, want: 2500 * time.Millisecond},
		{name: "as the provider says", n: 100, waited: 20 * time.Second, learned: broad, change: func(m *machine) { later(m, 0) }, want: 20 * time.Second},
		{name: "as the provider says of half of them", n: 100, waited: 20 * time.Second, learned: broad, change: func(m *machine) { later(m, 50) }, want: 6725 * time.Millisecond},
		{name: "not longer than asked", n: 100, waited: 20 * time.Second, learned: broad, change: func(m *machine) { m.env.poll = 2 * time.Second }, want: 2 * time.Second},
	} {
		m := learner(c.n, "p", c.waited)
		m.t.Learned = c.learned
		if c.change != nil {
			c.change(m)
		}
		m.shareLooks(m.batch(1))
		got := m.mem[0].nextAt.Sub(zeroHour)
		if d := got - c.want; d < -60*time.Millisecond || d > 60*time.Millisecond {
			t.Errorf("%s: looks after %s, want %s", c.name, got, c.want)
		}
		for n, r := range m.mem {
			if r.nextAt.Before(r.notBefore) || !r.nextAt.IsZero() && !r.nextAt.Equal(m.mem[0].nextAt) && !r.nextAt.Equal(r.notBefore) {
				t.Errorf("%s: row %d is looked at after %s", c.name, n, r.nextAt.Sub(zeroHour))
			}
		}
		if !m.shared || m.due[0] != zeroHour.Add(got).UnixNano() {
			t.Errorf("%s: planned: %v, due at %d", c.name, m.shared, m.due[0])
		}
	}
}

// While a call about one of them is under way, or held back by a rate, nothing is planned: with its answer more is known.
func TestS16_SharedLooksWaitForAnswers(t *testing.T) {
	m := learner(3, "p", time.Minute)
	longest := zeroHour.Add(m.env.poll) // until it is planned
	m.mem[1].busy = true
	m.shareLooks(m.batch(1))
	if m.shared || !m.mem[0].nextAt.Equal(longest) {
		t.Errorf("planned: %v, for %s", m.shared, m.mem[0].nextAt)
	}
	m.mem[1].busy, m.mem[1].tries, m.mem[1].last = false, 1, fmt.Errorf("look: %w", provider.ErrThrottled) // it was held back
	m.shareLooks(m.batch(1))
	if m.shared || !m.mem[0].nextAt.Equal(longest) {
		t.Errorf("while one waits for its turn: planned: %v, for %s", m.shared, m.mem[0].nextAt)
	}
	m.mem[1].tries, m.mem[1].shares = 0, false
	m.shareLooks(m.batch(1))
	if !m.shared || m.mem[0].nextAt.Equal(longest) || !m.mem[1].nextAt.Equal(longest) || m.mem[0].nextAt != m.mem[2].nextAt {
		t.Errorf("planned: %v, for %s, %s and %s", m.shared, m.mem[0].nextAt, m.mem[1].nextAt, m.mem[2].nextAt)
	}
}

// However often it is planned anew, since others come into the phase, a look comes when it is worth it.
func TestS16_SharedLooksPlannedAnewAndAgain(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, 900 * time.Millisecond, 4 * time.Second} {
		for _, learned := range []map[string]PhaseTime{nil, {"p": {N: 100, Min: 10 * time.Second, Mean: time.Minute}}} {
			m := learner(300, "p", 20*time.Second)
			m.t.Learned = learned
			m.shareLooks(m.batch(1))
			planned := m.mem[0].nextAt
			for m.now.Before(planned) {
				m.now, m.shared = m.now.Add(every), false // one more has come into the phase
				m.shareLooks(m.batch(1))
			}
			if late := m.mem[0].nextAt.Sub(planned); late > time.Second || late < -2*time.Second {
				t.Errorf("planned anew every %s: looked at %s later than planned at first (after %s)", every, late, planned.Sub(zeroHour))
			}
		}
	}
}

// In batches that many calls take, those of whose phase too little is known are looked at at their own short intervals; where one call takes all, all
// go along.
func TestS16_OthersDoNotGoAlong(t *testing.T) {
	for n, together := range map[int]bool{100: true, 1000: false} {
		m := learner(n, "p", 20*time.Second)
		m.t.Learned = map[string]PhaseTime{"p": {N: 100, Min: 10 * time.Second, Mean: time.Minute}}
		for k := range n / 10 {
			m.mem[k].phase = "q"
		}
		m.shareLooks(m.batch(1))
		first, last := m.mem[0].nextAt.Sub(zeroHour), m.mem[n-1].nextAt.Sub(zeroHour)
		if first != 1500*time.Millisecond || together != (last == first) || !together && (last < 4*time.Second || m.mem[n/10].nextAt.Sub(zeroHour) != last) {
			t.Errorf("%d rows: unknown ones are looked at after %s, others after %s", n, first, last)
		}
	}
}

// One that could not be looked at is tried again in its own time, and nobody else is looked at sooner because of it.
func TestS16_SharedLooksLeaveOutWhatIsTriedAgain(t *testing.T) {
	m := learner(100, "p", 40*time.Second)
	m.shareLooks(m.batch(1))
	planned := m.mem[6].nextAt
	again := zeroHour.Add(20 * time.Second)
	m.mem[5].not, m.mem[5].tries, m.mem[5].nextAt, m.shared = 10*time.Second, 3, again, false
	m.shareLooks(m.batch(1))
	if at := m.mem[5].nextAt; !at.Equal(again) || m.mem[6].nextAt.Before(planned) {
		t.Errorf("tried again after %s, the others are looked at after %s", at.Sub(zeroHour), m.mem[6].nextAt.Sub(zeroHour))
	}
}

// An update without phases counts from the first answer, where another process has begun it.
func TestS4_S16_NoPhaseAfterATakeOver(t *testing.T) {
	m := learner(1, "", 0)
	m.mem[0] = track{}
	m.scheduleLook(&m.t.Instances[0], &provider.Progress{}, &call{op: opUpdate, id: "acts", at: zeroHour})
	if r := m.mem[0]; !r.since.Equal(zeroHour) || r.not != 0 {
		t.Errorf("it counts from %s, not over after %s", r.since, r.not)
	}
}

// One whose look is due, to stop its script say, is not put off to the next look at all.
func TestS23_LooksThatAreDueAreNotPutOff(t *testing.T) {
	m := learner(100, "p", 20*time.Second)
	m.mem[5].nextAt = zeroHour
	m.shareLooks(m.batch(1))
	if at := m.mem[5].nextAt; !at.Equal(zeroHour) || !m.mem[6].nextAt.After(zeroHour) {
		t.Errorf("put off to %s; the others are looked at after %s", at, m.mem[6].nextAt.Sub(zeroHour))
	}
}

// While nothing is known, as many rows as one call takes are looked at for all; the others wait for what is seen of them.
func TestS16_SomeAreLookedAtForAll(t *testing.T) {
	longest := zeroHour.Add(2 * time.Minute)
	begun := func(n int, waited time.Duration) *machine {
		m := learner(n, "p", waited)
		for k := range m.mem {
			m.mem[k].nextAt, m.due[k] = longest, longest.UnixNano()
		}
		return m
	}
	counts := func(m *machine) (early int, at time.Duration) {
		for k := range m.mem {
			if m.mem[k].nextAt.Before(longest) {
				early++
				at = m.mem[k].nextAt.Sub(zeroHour)
			}
		}
		return early, at
	}
	for _, c := range []struct {
		n, early int
		learned  map[string]PhaseTime
		at       time.Duration // the more they stand for, the sooner
	}{
		{n: 400, early: 400, at: 2500 * time.Millisecond},
		{n: 500, early: 100, at: time.Second},
		{n: 500, early: 100, at: time.Second, learned: map[string]PhaseTime{"p": {N: 2, Min: 200 * time.Second, Mean: 200 * time.Second}}},
		{n: 500, early: 100, at: time.Second, learned: map[string]PhaseTime{"p": {N: 4, Min: 20 * time.Second, Mean: 200 * time.Second}}},
		{n: 500, early: 500, at: 13740 * time.Millisecond, learned: map[string]PhaseTime{"p": {N: 5, Min: 20 * time.Second, Mean: 200 * time.Second}}},
		{n: 500, early: 100, at: time.Second, learned: map[string]PhaseTime{"q": {N: 9, Min: 100 * time.Second, Mean: 100 * time.Second}}},
	} {
		m := begun(c.n, 100*time.Second)
		m.t.Learned = c.learned
		m.shareLooks(m.batch(1))
		early, at := counts(m)
		if early != c.early || at < c.at-c.at/50 || at > c.at+c.at/50 {
			t.Errorf("%d rows, %v: %d are looked at, after %s; want %d, about %s", c.n, c.learned, early, at, c.early, c.at)
		}
		for k := 0; k < c.n; k += c.n / 4 {
			if !m.mem[k].nextAt.Before(longest) {
				t.Errorf("%d rows, %v: none is looked at from row %d on", c.n, c.learned, k)
			}
		}
	}
	for left, want := range map[int]int{25: 25, 24: 424} { // of those who are looked at for all
		m := begun(500, 100*time.Second)
		for k := range m.mem {
			if m.scout(k, 500) && k >= left {
				m.t.Instances[k].Status = InstanceFailed
			}
		}
		m.shareLooks(m.batch(1))
		if early, _ := counts(m); early != want {
			t.Errorf("%d are left to look at for all: %d are looked at, want %d", left, early, want)
		}
	}
	for _, limit := range []int{0, 1, 3, 7, 100} {
		m := begun(2003, time.Minute)
		m.env.limits.Update = limit
		some := 0
		for k := range m.mem {
			if m.scout(k, 2003) {
				some++
			}
		}
		if want := map[int]int{0: 2003, 1: 20, 3: 20, 7: 20, 100: 100}[limit]; some != want {
			t.Errorf("with %d in a call %d are looked at for all, want %d", limit, some, want)
		}
	}
}

// What some have been looked at for is told to the others at once: when to look first, and again when it turns out to be sooner.
func TestS16_WhatSomeHaveShownIsToldToAll(t *testing.T) {
	longest := zeroHour.Add(2 * time.Minute)
	m := learner(500, "p", 10*time.Second)
	for k := range m.mem {
		m.mem[k].nextAt, m.due[k] = longest, longest.UnixNano()
	}
	m.mem[497].busy = true                                                  // its answer will plan it
	m.mem[498].not = 70 * time.Second                                       // it takes longer than those that were seen
	m.mem[499].phase, m.mem[499].since = "q", zeroHour.Add(-10*time.Second) // not yet there
	m.mem[495].tries = 1                                                    // its last look came to nothing: it is tried again in its own time
	m.mem[494].notBefore = zeroHour.Add(90 * time.Second)                   // as the provider says
	check := func(when string, want time.Duration, shares bool) {
		t.Helper()
		m.tell(m.batch(1))
		if r := m.mem[494]; !shares && !r.nextAt.Equal(r.notBefore) {
			t.Errorf("%s: looked at after %s, against what the provider says", when, r.nextAt.Sub(zeroHour))
		}
		for _, k := range []int{100, 496} {
			if r := m.mem[k]; r.nextAt.Sub(zeroHour) != want || r.shares != shares || m.due[k] != r.nextAt.UnixNano() {
				t.Errorf("%s: row %d is looked at after %s (due %d, shares looks: %v), want %s", when, k, r.nextAt.Sub(zeroHour), m.due[k], r.shares, want)
			}
		}
		for _, k := range []int{24, 399, 495, 497, 498, 499} {
			if !m.mem[k].nextAt.Equal(longest) {
				t.Errorf("%s: row %d is looked at after %s", when, k, m.mem[k].nextAt.Sub(zeroHour))
			}
		}
	}
	ends := func(k int, after time.Duration) { m.learn(&m.t.Instances[k], "", zeroHour.Add(after-10*time.Second)) }
	ends(0, 62*time.Second)
	ends(1, 62*time.Second)
	check("two are done", 2*time.Minute, true)
	ends(2, 62*time.Second)
	m.shared = true
	check("three are done", 62*time.Second+60*time.Millisecond+124*time.Millisecond-10*time.Second, false)
	if m.shared {
		t.Error("shared looks are not planned anew")
	}
	ends(3, 63*time.Second)
	check("one took longer", 62*time.Second+60*time.Millisecond+124*time.Millisecond-10*time.Second, false)
	ends(4, 60*time.Second)
	check("one was sooner", 60*time.Second+60*time.Millisecond+120*time.Millisecond-10*time.Second, false)
	if m.told {
		t.Error("told again and again")
	}
}

// Those who are not looked at for all do not look half way either, where it is known within bounds how long it takes.
func TestS16_OnlySomeLookHalfWay(t *testing.T) {
	const half, sure = 25 * time.Second, 30*time.Second + 60*time.Millisecond + 80*time.Millisecond
	for k, want := range map[int]time.Duration{0: half, 24: half, 25: sure, 124: sure, 125: half, 374: sure, 399: half, 400: sure, 499: sure} {
		m := learner(500, "starting", 10*time.Second)
		m.t.Learned = map[string]PhaseTime{"starting": {N: 5, Min: 40 * time.Second, Mean: 40 * time.Second, Not: 30 * time.Second}}
		m.scheduleLook(&m.t.Instances[k], &provider.Progress{Phase: "starting"}, &call{op: opUpdate, at: zeroHour})
		if got := m.mem[k].nextAt.Sub(zeroHour); got != want {
			t.Errorf("row %d: next look after %s, want %s", k, got, want)
		}
	}
}

// A look takes instances along that are due soon, as far as its calls have room, and makes no call for them alone.
func TestS16_LooksTakeAlongWhatFits(t *testing.T) {
	for _, c := range []struct{ due, soon, late, calls, rows int }{
		{due: 60, soon: 30, late: 5, calls: 1, rows: 90},
		{due: 60, soon: 70, calls: 1, rows: 100},
		{due: 100, soon: 50, calls: 1, rows: 100},
		{due: 150, soon: 150, calls: 2, rows: 200},
		{due: 0, soon: 50, calls: 0},
	} {
		m := learner(c.due+c.soon+c.late, "p", time.Minute)
		m.slots, m.shared = 9, true
		for k := range m.mem {
			at := zeroHour.Add(time.Minute)
			switch {
			case k < c.late:
			case k < c.late+c.soon:
				at = zeroHour.Add(together)
			default:
				at = zeroHour
			}
			m.mem[k].nextAt = at
		}
		calls, rows := m.rowCalls(), 0
		for _, call := range calls {
			rows += len(call.rows)
		}
		if len(calls) != c.calls || rows != c.rows {
			t.Errorf("%d due, %d soon: %d calls about %d rows, want %d about %d", c.due, c.soon, len(calls), rows, c.calls, c.rows)
		}
	}
}
