package rollingupgrade

import (
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// PhaseTime is how long a phase of an update has been seen to take in a task. It is kept with the
// task, so that a Runner that takes over need not learn again.
type PhaseTime struct {
	N    int           `json:"n"`
	Min  time.Duration `json:"min"`
	Mean time.Duration `json:"mean"`
}

// learn notes how long the row's phase took, and that the next one begins.
func (m *machine) learn(i *Instance, next string) {
	t := m.track(i)
	if t.phase != "" && !t.since.IsZero() {
		d := m.now.Sub(t.since)
		if m.t.Learned == nil {
			m.t.Learned = map[string]PhaseTime{}
		}
		l, seen := m.t.Learned[t.phase]
		if !seen || d < l.Min {
			l.Min = d
		}
		l.N++
		l.Mean += (d - l.Mean) / time.Duration(l.N)
		m.t.Learned[t.phase] = l
		m.touchHead()
	}
	t.phase, t.since = next, m.now
}

// scheduleLook plans when to ask for the row's update again: not before the provider says it is worth it, first when
// the fastest instance so far was done, then at intervals that grow with the time waited.
func (m *machine) scheduleLook(i *Instance, p *provider.Progress) {
	t := m.track(i)
	if p.Phase != t.phase {
		m.learn(i, p.Phase)
	}
	if p.Act {
		t.nextAt = m.now
		return
	}
	waited := m.now.Sub(t.since)
	wait := min(max(waited/10, time.Second), m.env.poll)
	if l, ok := m.t.Learned[p.Phase]; ok && waited < l.Min {
		wait = l.Min - waited
	}
	t.nextAt = m.now.Add(max(wait, p.Wait))
}
