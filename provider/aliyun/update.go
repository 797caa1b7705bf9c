package aliyun

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// How long it is not worth looking again: at what is shown to be under way (the service advises against more than a call in 1 to 2 s; the
// Runner learns when it is worth it), and, at most, at what was ordered and does not show yet.
const (
	waitShown   = time.Second
	waitStop    = 5 * time.Second
	waitReplace = 10 * time.Second
	waitStart   = 5 * time.Second
	waitScript  = 3 * time.Second
)

// The lists of the service may lag behind its answers. An order that was accepted and does not show counts as come to nothing
// after so many looks in a row.
const (
	patienceStop    = 8  // half a minute; then the order is given again
	patienceStart   = 8  // half a minute
	patienceReplace = 8  // a minute
	patienceNamed   = 32 // five minutes: the service has named the new disk
	patienceScript  = 40 // two minutes: no guarantee is documented for when a result shows
)

// Update implements [provider.Updater] for images and scripts.
//
// What comes next follows from what the cloud shows, compared with the old disk or the invocation that the target's
// State names. A side effect is made only in a call with a call ID whose State names it.
func (p *Provider) Update(ctx context.Context, groupID string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	if err := checkUpdate(u); err != nil {
		return nil, err
	}
	got, err := perTarget(ctx, opUpdate, targets, maxInstances, func(targets []provider.Target) (answers, error) {
		if u.Kind == provider.ScriptUpdate {
			return p.updateScript(ctx, *u.Script, targets)
		}
		return p.updateImage(ctx, groupID, u.Image.ImageID, targets)
	})
	for n := range got {
		if p.cfg.Poll > 0 && got[n].Wait > 0 {
			got[n].Wait = p.cfg.Poll
		}
	}
	return got, err
}

// Pace implements [provider.Pacer]: every image update takes a call of ReplaceSystemDisk of its own.
func (p *Provider) Pace(u provider.Update, n int) (now int, wait time.Duration) {
	if u.Kind != provider.ImageUpdate {
		return n, 0
	}
	return p.limit.pace("ReplaceSystemDisk", n, maxStandby)
}

func checkUpdate(u provider.Update) error {
	switch {
	case u.Kind == provider.ImageUpdate && u.Image != nil && u.Image.ImageID != "":
		return nil
	case u.Kind == provider.ScriptUpdate && u.Script != nil:
		return nil
	case u.Kind == provider.ImageUpdate || u.Kind == provider.ScriptUpdate:
		return fmt.Errorf("update of kind %q says nothing: %w", u.Kind, provider.ErrInvalid)
	}
	return fmt.Errorf("update of kind %q is unknown: %w", u.Kind, provider.ErrInvalid)
}

// The phases. The first five name a side effect that comes next, the others what is being waited for.
const (
	phaseStop    = "stop"
	phaseReplace = "replace"
	phaseStart   = "start"
	phaseRun     = "run"
	phaseHalt    = "halt" // stop a script

	phaseStopping  = "stopping"
	phaseReplacing = "replacing"
	phaseStarting  = "starting"
	phaseScript    = "script"
	phaseHalting   = "halting"
)

// progressState is [provider.Progress.State]. It is stored with tasks: fields may be added, not changed.
type progressState struct {
	Phase string `json:"phase"`
	// The disk that is replaced, and what the new one takes from it.
	OldDisk   string `json:"old_disk,omitempty"`
	SizeGiB   int    `json:"size_gib,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
	KMSKeyID  string `json:"kms_key_id,omitempty"`
	// NewDisk is the disk that the service has named; a lost answer leaves it empty.
	NewDisk string `json:"new_disk,omitempty"`
	// UserData says that the instance has the user data that it is to have.
	UserData bool `json:"user_data,omitempty"`
	// Undo says that the instance is only started again.
	Undo bool `json:"undo,omitempty"`
	// InvocationID is the script's.
	InvocationID string `json:"invocation_id,omitempty"`
	// Unseen counts the looks in a row that did not show what was accepted.
	Unseen int `json:"unseen,omitempty"`
}

func (s progressState) json() json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // texts and numbers only
	}
	return b
}

// readState returns the target's state; the zero state at first.
func readState(t provider.Target) (s progressState, err error) {
	if len(t.State) == 0 || string(t.State) == "null" {
		return s, nil
	}
	if err := json.Unmarshal(t.State, &s); err != nil {
		return s, fmt.Errorf("state of %s: %w: %w", t.InstanceID, err, provider.ErrInvalid)
	}
	return s, nil
}

// step is what comes next for one instance.
type step struct {
	act     string // the side effect that is due; empty if none is
	wait    string // what is being waited for
	after   time.Duration
	done    provider.Outcome
	fit     bool // it was seen Running
	err     error
	output  *provider.Output
	state   progressState
	stopped bool
	limit   int // MaxTargets
	before  *provider.Before
}

func (s step) progress() provider.Progress {
	p := provider.Progress{
		Done: s.done != "", Outcome: s.done, Fit: s.done != "" && s.fit, Act: s.act != "", Phase: s.wait, Err: s.err, Output: s.output,
		Stopped: s.stopped, MaxTargets: s.limit, Before: s.before,
	}
	if s.wait != "" {
		p.Wait = s.after
	}
	if s.state.Phase != "" {
		p.State = s.state.json()
	}
	return p
}

// due reports whether the target's call is to make the side effect act now: it has a call ID, and its saved
// state names it.
func due(t provider.Target, saved progressState, act string) bool {
	return act != "" && t.CallID != "" && saved.Phase == act
}

// unsent says that a target's side effect was not sent for now: it is left out of the answer, or, if an earlier sending may
// have had its effect, gets the reason.
func (a answers) unsent(t provider.Target, saved progressState, why error) {
	if t.Resent {
		a[t.InstanceID] = provider.Progress{Err: ofInstance(t.InstanceID, why), State: saved.json()}
	}
}
