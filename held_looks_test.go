package rollingupgrade_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A rationed provider answers a look at five instances every so often, and refuses the others as a limit of calls does.
type rationed struct {
	fake.Face
	every time.Duration
	mu    sync.Mutex
	next  time.Time
	looks map[string][]time.Time // those that were answered
}

func (r *rationed) Limits() provider.Limits {
	l := r.Face.Limits()
	l.Update = 5
	return l
}

func (r *rationed) Update(ctx context.Context, group string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	if targets[0].CallID != "" { // it acts
		return r.Face.Update(ctx, group, u, targets)
	}
	r.mu.Lock()
	now := time.Now()
	held := now.Before(r.next)
	if !held {
		r.next = now.Add(r.every)
		for _, t := range targets {
			r.looks[t.InstanceID] = append(r.looks[t.InstanceID], now)
		}
	}
	r.mu.Unlock()
	if held {
		return nil, fmt.Errorf("DescribeInvocationResults: %w", provider.ErrThrottled)
	}
	return r.Face.Update(ctx, group, u, targets)
}

// Where fewer looks are let through than would be worth their calls, nobody is looked at again and again while another one waits for its turn.
func TestS16_LooksThatAreHeldBackHaveTheirTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 40
		b, r := demoBed(t, n), &rationed{every: time.Second, looks: map[string][]time.Time{}}
		for k := range n { // the one five times as long as the other
			takes := time.Duration(30+3*((k*17)%n)) * time.Second
			b.cloud.SetBehavior(fmt.Sprintf("i-%04d", k+1), fake.Behavior{Scripts: []fake.ScriptResult{{Takes: takes}}})
		}
		b.use(func(f fake.Face) provider.Provider { r.Face = f; return r }, ru.Config{})
		b.runTo(b.create(scriptSpec(1, func(s *ru.Spec) { s.MinInService, s.Update.Script.Timeout = -1, time.Hour })), ru.StatusSucceeded)
		most := 0
		for id, at := range r.looks {
			for k := 1; k < len(at); k++ {
				for other, looks := range r.looks {
					between := 0
					for _, x := range looks {
						if x.After(at[k-1]) && x.Before(at[k]) {
							between++
						}
					}
					if between > most {
						most = between
						t.Logf("%s was looked at %d times while %s waited, from %s to %s", other, between, id, at[k-1], at[k])
					}
				}
			}
		}
		if most == 0 || most > 2 {
			t.Errorf("one was looked at %d times while another one waited, want once or twice", most)
		}
	})
}

// A troubled provider fails looks at one instance for a time.
type troubled struct {
	fake.Face
	mu    sync.Mutex
	from  time.Time
	until time.Time
	looks int // at all
	bad   int
}

func (r *troubled) Update(ctx context.Context, group string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	got, err := r.Face.Update(ctx, group, u, targets)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	for n, p := range got {
		if p.InstanceID == "i-0001" && targets[n].CallID == "" && time.Now().After(r.from) && time.Now().Before(r.until) {
			r.bad++
			got[n] = provider.Progress{InstanceID: p.InstanceID, State: targets[n].State, Err: provider.ErrTransient}
		}
	}
	return got, err
}

// One instance that cannot be looked at is tried again in its own time, and the others are not looked at more often because of it.
func TestS16_OneThatCannotBeLookedAt(t *testing.T) {
	var mu sync.Mutex
	looks := map[bool]int{}
	t.Run("looks", func(t *testing.T) {
		for _, trouble := range []bool{false, true} {
			bubbled(t, fmt.Sprint(trouble), func(t *testing.T) {
				const n = 200
				b, r := demoBed(t, n), &troubled{}
				for k := range n {
					b.cloud.SetBehavior(fmt.Sprintf("i-%04d", k+1), fake.Behavior{Scripts: []fake.ScriptResult{{Takes: time.Duration(60+k*37%600) * time.Second}}})
				}
				b.use(func(f fake.Face) provider.Provider { r.Face = f; return r }, ru.Config{})
				if trouble {
					r.from, r.until = time.Now().Add(time.Minute), time.Now().Add(6*time.Minute)
				}
				b.runTo(b.create(scriptSpec(1, everything, func(s *ru.Spec) { s.Update.Script.Timeout, s.Timeouts.Update = time.Hour, 2*time.Hour })), ru.StatusSucceeded)
				mu.Lock()
				looks[trouble] = r.looks
				mu.Unlock()
				if r.bad > 30 || trouble && r.bad < 3 {
					t.Errorf("%d looks failed in five minutes", r.bad)
				}
			})
		}
	})
	if looks[true] > looks[false]+40 {
		t.Errorf("%d calls of Update, %d when one cannot be looked at", looks[false], looks[true])
	}
}
