package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// How long the provider face advises to wait before the next look.
const (
	waitStop    = time.Second
	waitReplace = time.Second
	waitStart   = time.Second
	waitScript  = time.Second
)

// Update implements [provider.Updater] for images and scripts.
//
// What it does next follows from what the cloud shows, compared with the old disk or the invocation
// that the target's State names; a side effect is made only in a call with a
// call ID whose State names it.
func (c *Cloud) Update(ctx context.Context, groupID string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	if err := checkUpdate(u); err != nil {
		return nil, err
	}
	return c.perTarget(ctx, "Update", groupID, targets, c.Limits().Update, func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		if u.Kind == provider.ScriptUpdate {
			return c.updateScript(ctx, groupID, *u.Script, targets)
		}
		return c.updateImage(ctx, groupID, u.Image.ImageID, targets)
	})
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

// The phases that name a side effect.
const (
	phaseStop    = "stop"
	phaseReplace = "replace"
	phaseStart   = "start"
	phaseRun     = "run"
	phaseHalt    = "halt" // stop a script
)

// progressState is [provider.Progress.State]. Phase is the side effect that comes next, or
// what is being waited for.
type progressState struct {
	Phase string `json:"phase"`
	// The disk that is replaced, and what the new one takes from it.
	OldDisk   string `json:"old_disk,omitempty"`
	SizeGiB   int    `json:"size_gib,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
	KMSKeyID  string `json:"kms_key_id,omitempty"`
	// Undo says that the instance is only started again.
	Undo bool `json:"undo,omitempty"`
	// InvocationID is the script's.
	InvocationID string `json:"invocation_id,omitempty"`
}

func (s progressState) json() json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers only
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

func (c *Cloud) progress(id string, s step) provider.Progress {
	p := provider.Progress{
		InstanceID: id, Done: s.done != "", Outcome: s.done, Fit: s.done != "" && s.fit, Act: s.act != "", Phase: s.wait, Err: s.err, Output: s.output,
		Stopped: s.stopped, MaxTargets: s.limit, Before: s.before,
	}
	if s.wait != "" {
		p.Wait = c.advise(s.after)
	}
	if s.state.Phase != "" {
		p.State = s.state.json()
	}
	return p
}

// due reports whether the target's call is to make the side effect act now: it has a call ID,
// and its saved state names it.
func due(t provider.Target, saved progressState, act string) bool {
	return act != "" && t.CallID != "" && saved.Phase == act
}
