package rollingupgrade

import (
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// learned is how long a phase of an update has been seen to take in this task.
type learned struct {
	n         int
	min, mean time.Duration
}

// learned notes how long the row's phase took, and that the next one begins.
func (m *machine) learned(i *Instance, next string) {
	t := m.track(i)
	if t.phase != "" && !t.since.IsZero() {
		d := m.now.Sub(t.since)
		l := m.learn[t.phase]
		if l == nil {
			l = &learned{min: d}
			m.learn[t.phase] = l
		}
		l.n++
		l.min = min(l.min, d)
		l.mean += (d - l.mean) / time.Duration(l.n)
	}
	t.phase, t.since = next, m.now
}

// scheduleLook plans when to ask for the row's update again: not before the provider says it is worth it, first when
// the fastest instance so far was done, then at intervals that grow with the time waited.
func (m *machine) scheduleLook(i *Instance, p *provider.Progress) {
	t := m.track(i)
	if p.Phase != t.phase {
		m.learned(i, p.Phase)
	}
	if p.Act {
		t.nextAt = m.now
		return
	}
	waited := m.now.Sub(t.since)
	wait := min(max(waited/10, time.Second), m.env.poll)
	if l := m.learn[p.Phase]; l != nil && waited < l.min {
		wait = l.min - waited
	}
	t.nextAt = m.now.Add(max(wait, p.Wait))
}
