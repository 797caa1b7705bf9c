package fake

import (
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

func imageIDs(todo []imageTarget) []string {
	ids := make([]string, len(todo))
	for n, t := range todo {
		ids[n] = t.InstanceID
	}
	return ids
}

// sent notes what came of a side effect: from now on wait for phase, or the error.
// After an error the state stays as it was saved, so that the same call can be sent again.
func (j *imageJob) sent(todo []imageTarget, err error, phase string, after time.Duration, stopped bool) {
	if err != nil {
		plain := make([]provider.Target, len(todo))
		for n, t := range todo {
			plain[n] = t.Target
		}
		for n, p := range blame(plain, err) {
			p.State = todo[n].saved.json()
			p.Stopped = stopped || todo[n].view.Power != provider.Running
			j.answers[p.InstanceID] = p
		}
		return
	}
	for _, t := range todo {
		s := step{state: t.saved, wait: phase, after: after, stopped: stopped}
		s.state.Phase = phase
		j.answers[t.InstanceID] = j.progress(t.InstanceID, s)
	}
}
