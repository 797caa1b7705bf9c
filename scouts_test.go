package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Where a batch is too large for all to be looked at while nothing is known, those that are looked at may fail, vanish or be late. Nobody waits for
// them then: it takes about as long as with a batch in which all are looked at.
func TestS16_ThoseLookedAtForAllTeachNothing(t *testing.T) {
	const small, large = 400, 500
	fails := func(after time.Duration, well ...string) func(fake.ScriptRun) fake.ScriptResult {
		return func(r fake.ScriptRun) fake.ScriptResult {
			for _, id := range well {
				if r.InstanceID == id {
					return fake.ScriptResult{Takes: after}
				}
			}
			return fake.ScriptResult{Takes: after, ExitCode: 1}
		}
	}
	takes := func(d time.Duration) func(fake.ScriptRun) fake.ScriptResult {
		return func(fake.ScriptRun) fake.ScriptResult { return fake.ScriptResult{Takes: d} }
	}
	vanish := func(b *bed, n int) {
		time.Sleep(15 * time.Second)
		var ids []string
		for part := range 4 {
			ids = append(ids, idRange(part*n/4+1, part*n/4+25)...)
		}
		b.cloud.Now(func(w *fake.World) { w.Release(ids...) })
	}
	for _, c := range []struct {
		name      string
		script    func(fake.ScriptRun) fake.ScriptResult
		spec      func(*ru.Spec)
		meanwhile func(b *bed, n int)
		ends      ru.Status
	}{
		{name: "all fail", script: fails(5 * time.Second), ends: ru.StatusFailurePaused},
		{name: "nearly all fail", script: fails(5*time.Second, "i-0001", "i-0002"), ends: ru.StatusFailurePaused},
		{name: "all fail, 100 at a time", script: fails(5 * time.Second), spec: func(s *ru.Spec) { s.MaxInFlight = 100 }, ends: ru.StatusFailurePaused},
		{name: "none comes to an end", script: takes(25 * time.Minute), spec: func(s *ru.Spec) { s.Timeouts.Update = 30 * time.Second }, ends: ru.StatusFailurePaused},
		{name: "they are released", script: takes(20 * time.Second), meanwhile: vanish, ends: ru.StatusSucceeded},
	} {
		bubbled(t, c.name, func(t *testing.T) {
			took := map[int]time.Duration{}
			for _, n := range []int{small, large} {
				b := newBed(t, fake.Demo(fake.Config{Script: c.script}, n), ru.Config{})
				b.rough = c.meanwhile != nil
				id := b.create(scriptSpec(1, everything, func(s *ru.Spec) {
					if c.spec != nil {
						c.spec(s)
					}
				}))
				began := time.Now()
				wait := b.start(id)
				if c.meanwhile != nil {
					c.meanwhile(b, n)
				}
				b.wantStatus(wait(), c.ends)
				took[n] = time.Since(began)
			}
			if took[large] > took[small]+10*time.Second {
				t.Errorf("a batch of %d took %s, one of %d %s", large, took[large], small, took[small])
			}
		})
	}
}

// A fewAtOnce provider takes few instances in one call of Update.
type fewAtOnce struct {
	fake.Face
	n int
}

func (f fewAtOnce) Limits() provider.Limits {
	l := f.Face.Limits()
	l.Update = f.n
	return l
}

func TestS16_FewInstancesACall(t *testing.T) {
	for _, limit := range []int{1, 3, 7, 8, 20} {
		bubbled(t, fmt.Sprint(limit), func(t *testing.T) {
			cloud := fake.Demo(fake.Config{Script: func(r fake.ScriptRun) fake.ScriptResult {
				var k int
				if _, err := fmt.Sscanf(r.InstanceID, "i-%d", &k); err != nil {
					t.Error(err)
				}
				return fake.ScriptResult{Takes: 10*time.Second + time.Duration(k*37%100)*100*time.Millisecond}
			}}, 200)
			b := newBed(t, cloud, ru.Config{})
			b.use(func(f fake.Face) provider.Provider { return fewAtOnce{f, limit} }, ru.Config{})
			began := time.Now()
			b.runTo(b.create(scriptSpec(1, everything)), ru.StatusSucceeded)
			most := time.Minute
			if *wireFlag && limit == 1 { // 200 calls for a look at all meet the rate limits
				most = 90 * time.Second
			}
			if took := time.Since(began); took > most {
				t.Errorf("scripts of 10 to 20 s took %s", took)
			}
		})
	}
}

// A phaseless kind takes 10 s and names no phase.
type phaseless struct {
	mu    sync.Mutex
	began map[string]time.Time
}

func (k *phaseless) Update(_ context.Context, _ string, _ provider.Update, targets []provider.Target) (all []provider.Progress, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range targets {
		p := provider.Progress{InstanceID: t.InstanceID, State: json.RawMessage(`"x"`)}
		at, began := k.began[t.InstanceID]
		switch {
		case !began && t.CallID == "":
			p.Act = true
		case !began:
			k.began[t.InstanceID] = time.Now()
			p.Wait = time.Second
		case time.Since(at) < 10*time.Second:
			p.Wait = time.Second
		default:
			p.Done, p.Outcome = true, provider.Updated
		}
		all = append(all, p)
	}
	return all, nil
}

// An update that names no phase is nothing that can be learnt: all are looked at, however many they are.
func TestS4_S16_AKindWithoutPhases(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		k := &phaseless{began: map[string]time.Time{}}
		b := newBed(t, fake.Demo(fake.Config{}, 500), ru.Config{Kinds: map[provider.Kind]provider.Updater{tagKind: k}})
		spec := tagSpec("new")
		spec.Batches, spec.MinInService = ru.InBatches(1), -1
		began := time.Now()
		b.runTo(b.create(spec), ru.StatusSucceeded)
		if took := time.Since(began); took > 40*time.Second {
			t.Errorf("a kind that takes 10 s took %s", took)
		}
	})
}

// Where instances begin one after the other, as the provider lets them, those at work are looked at all the same.
func TestS16_LooksWhileOthersBegin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 300
		b, _ := paceBed(t, n, func(_, n int) (int, time.Duration) { return min(1, n), 500 * time.Millisecond })
		takes := map[string]time.Duration{}
		for k := range n {
			id := fmt.Sprintf("i-%04d", k+1)
			takes[id] = time.Duration(20+(k*37)%100) * time.Second
			b.cloud.SetBehavior(id, fake.Behavior{Scripts: []fake.ScriptResult{{Takes: takes[id]}}})
		}
		task := b.runTo(b.create(scriptSpec(1, everything, func(s *ru.Spec) { s.Update.Script.Timeout = time.Hour })), ru.StatusSucceeded)
		var lost, most time.Duration
		for _, i := range task.Instances {
			late := i.EndedAt.Sub(i.StartedAt) - takes[i.ID]
			lost, most = lost+late, max(most, late)
		}
		if lost/n > 20*time.Second || most > 40*time.Second {
			t.Errorf("instances are out of service for %s longer than their scripts take, up to %s", lost/n, most)
		}
		t.Logf("%s longer, up to %s", lost/n, most)
	})
}
