package killtest

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// Kinds are the operations of which each is to be in flight at some kill.
func Kinds() []string {
	return []string{
		"SuspendProcesses", "SetInstancesProtection", "EnterStandby", "StopInstances", "ReplaceSystemDisk", "ModifyInstanceAttribute", "StartInstances",
		"RunCommand", "StopInvocation", "ExitStandby", "ModifyScalingConfiguration", "ResumeProcesses", kindLook,
	}
}

const (
	kindLook    = "a look (Describe...)"
	kindNothing = "nothing"
)

func kindOf(action string) string {
	if isRead(action) {
		return kindLook
	}
	return action
}

// A killer does harm to the workers at random moments.
type killer struct {
	crew    *crew
	cloud   *process
	chance  *rand.Rand
	every   time.Duration // between two strokes, on the average
	lease   time.Duration
	missing map[string]bool // kinds of operation that no kill of any round has met yet
	aims    bool            // waits for operations of these kinds
}

// run strikes until ctx is done.
func (k *killer) run(ctx context.Context) {
	pause(ctx, k.every)
	pause(ctx, time.Second)
	for n := 0; ctx.Err() == nil; n++ {
		switch draw := k.chance.IntN(100); {
		case draw < 9:
			k.freeze(ctx, "long freeze", k.lease+k.between(300*time.Millisecond, 3*time.Second))
		case draw < 24:
			k.freeze(ctx, "short freeze", k.between(50*time.Millisecond, k.lease/2))
		case draw < 30:
			if p := k.crew.victim("", k.chance.IntN(100)); p != nil {
				k.crew.note(outage{kind: "graceful end", process: p.name})
				k.crew.finish(p)
			}
		default:
			k.kill(ctx)
		}
		pause(ctx, k.between(0, 2*k.every))
		k.every += k.every / 40
	}
}

func (k *killer) between(from, to time.Duration) time.Duration {
	return from + time.Duration(k.chance.Int64N(int64(max(to-from, 1))))
}

// freeze freezes a worker. Where there are others it goes on beside what else happens.
func (k *killer) freeze(ctx context.Context, kind string, d time.Duration) {
	p := k.crew.victim("", k.chance.IntN(100))
	if p == nil {
		return
	}
	during := k.inFlight(ctx, p, time.Now().UnixNano())
	work := func() {
		from, to := k.crew.freeze(ctx, p, d)
		k.crew.note(outage{kind: kind, process: p.name, from: from, to: to, during: during})
	}
	if len(k.crew.slots) == 1 {
		work()
		return
	}
	k.crew.restarts.Go(work)
}

// kill kills a worker: at a random moment, or during an operation of a kind that is still missing.
func (k *killer) kill(ctx context.Context) {
	name, aimed := "", ""
	if missing := sorted(k.missing); k.aims && len(missing) > 0 && k.chance.IntN(2) == 0 {
		aimed = missing[k.chance.IntN(len(missing))]
		if aimed != kindLook {
			q := aimQuestion{Action: aimed, Before: k.chance.IntN(2) == 0, Wait: 2 * time.Second}
			if ask(ctx, 5*time.Second, k.cloud.address, "/aim", q, &name) != nil || name == "" {
				aimed = ""
			}
		}
	}
	p := k.crew.victim(name, k.chance.IntN(100))
	if p == nil || ctx.Err() != nil {
		return
	}
	at := k.crew.kill(p)
	o := outage{kind: "kill", process: p.name, from: at, during: k.inFlight(ctx, p, at), aimed: aimed}
	for _, kind := range o.during {
		delete(k.missing, kind)
	}
	k.crew.note(o)
}

// inFlight asks the cloud which kinds of operation of a worker were in flight.
func (k *killer) inFlight(ctx context.Context, p *process, at int64) []string {
	var actions []string
	if ask(context.WithoutCancel(ctx), 5*time.Second, k.cloud.address, "/during", duringQuestion{p.name, at}, &actions) != nil {
		return nil
	}
	for n, a := range actions {
		actions[n] = kindOf(a)
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

func sorted(set map[string]bool) []string {
	var out []string
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
