package rollingupgrade_test

import (
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A pacing provider says how many updates may begin.
type pacing struct {
	fake.Face
	mu    sync.Mutex
	grant func(ask, n int) (now int, wait time.Duration) // ask counts from 0
	asked []int
	kinds []provider.Kind
}

// Pace implements [provider.Pacer].
func (p *pacing) Pace(u provider.Update, n int) (int, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.kinds = append(p.asked, n), append(p.kinds, u.Kind)
	return p.grant(len(p.asked)-1, n)
}

// paceBed is a bed of n instances whose provider paces.
func paceBed(t *testing.T, n int, grant func(ask, n int) (int, time.Duration)) (*bed, *pacing) {
	t.Helper()
	b, p := demoBed(t, n), &pacing{grant: grant}
	b.use(func(f fake.Face) provider.Provider { p.Face = f; return p }, ru.Config{})
	return b, p
}

// waves are how many instances entered Standby how long after the first one, to the second.
func (b *bed) waves() map[time.Duration]int {
	b.t.Helper()
	var first time.Time
	waves := map[time.Duration]int{}
	for _, e := range b.cloud.Effects() {
		if e.Action == "EnterStandby" {
			if first.IsZero() {
				first = e.Time
			}
			waves[e.Time.Sub(first).Round(time.Second)]++
		}
	}
	return waves
}

func TestS15_InstancesAreTakenOutAsFastAsTheProviderLetsThem(t *testing.T) {
	few := func(most int, wait time.Duration) func(ask, n int) (int, time.Duration) {
		return func(_, n int) (int, time.Duration) { return min(most, n), wait }
	}
	for _, c := range []struct {
		name        string
		grant       func(ask, n int) (int, time.Duration)
		maxInFlight int
		waves       map[time.Duration]int
		asked       []int
	}{
		{name: "all at once", grant: few(99, 0), waves: map[time.Duration]int{0: 7}, asked: []int{7}},
		{name: "three every 10 s", grant: few(3, 10*time.Second), waves: map[time.Duration]int{0: 3, 10 * time.Second: 3, 20 * time.Second: 1}, asked: []int{7, 4, 1}},
		{name: "none at first", grant: func(ask, n int) (int, time.Duration) { return min(7*ask, n), 30 * time.Second }, waves: map[time.Duration]int{0: 7}, asked: []int{7, 7}},
		{name: "no longer than MaxWait", grant: few(4, 24*time.Hour), waves: map[time.Duration]int{0: 4, 2 * time.Minute: 3}, asked: []int{7, 3}},
		{name: "more than asked for", grant: func(_, n int) (int, time.Duration) { return n + 5, 0 }, waves: map[time.Duration]int{0: 7}, asked: []int{7}},
		{name: "nonsense at first", grant: func(ask, n int) (int, time.Duration) {
			if ask < 3 {
				return -1, -time.Hour
			}
			return n, 0
		}, waves: map[time.Duration]int{0: 7}, asked: []int{7, 7, 7, 7}},
		{name: "within MaxInFlight", grant: few(99, 0), maxInFlight: 7, waves: map[time.Duration]int{0: 7}, asked: []int{7}},
	} {
		bubbled(t, c.name, func(t *testing.T) {
			b, p := paceBed(t, 7, c.grant)
			task := b.runTo(b.create(imageSpec(1, func(s *ru.Spec) { s.MaxInFlight, s.MinInService = c.maxInFlight, -1 })), ru.StatusSucceeded)
			diff(t, "succeeded", 7, task.Progress.Succeeded)
			diff(t, "entered Standby", c.waves, b.waves())
			diff(t, "asked for", c.asked, p.asked)
			diff(t, "kind", provider.ImageUpdate, p.kinds[0])
		})
	}
}

// The provider is asked for no more than MaxInFlight leaves room for, and never are more at work than both allow.
func TestS15_PaceAndMaxInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, p := paceBed(t, 7, func(_, n int) (int, time.Duration) { return min(1, n), time.Second })
		b.runTo(b.create(scriptSpec(1, func(s *ru.Spec) { s.MaxInFlight = 2 })), ru.StatusSucceeded)
		in, most := 0, 0
		for _, e := range b.cloud.Effects() {
			switch e.Action {
			case "EnterStandby":
				in++
			case "ExitStandby":
				in--
			}
			most = max(most, in)
		}
		if most > 2 {
			t.Errorf("%d instances were in Standby at once", most)
		}
		for _, n := range p.asked {
			if n < 1 || n > 2 {
				t.Errorf("the provider was asked for %d instances: %v", n, p.asked)
				break
			}
		}
		if len(p.asked) < 7 {
			t.Errorf("the provider was asked %d times: %v", len(p.asked), p.asked)
		}
	})
}

// A pause that is asked for while instances wait for the provider's pace begins when those at work are back, and nothing is begun in it.
func TestS21_PauseWhileTheProviderHoldsBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, p := paceBed(t, 6, func(ask, n int) (int, time.Duration) {
			if ask == 0 {
				return 2, time.Minute
			}
			return n, 0
		})
		id := b.create(imageSpec(1, func(s *ru.Spec) { s.MinInService = -1 }))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.ok(b.r.Pause(b.ctx(), id, "look"))
		task := wait()
		b.wantStatus(task, ru.StatusBatchPaused)
		diff(t, "begun", 2, task.Progress.Succeeded)
		diff(t, "asked for", []int{6}, p.asked)
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "asked for", []int{6, 4}, p.asked)
	})
}

// A rollback to what each instance was before asks for the kind of update that it makes.
func TestS15_PaceOfARollback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, p := paceBed(t, 4, func(_, n int) (int, time.Duration) { return n, 0 })
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		p.kinds = nil
		b.runTo(b.rollback(id, ru.RollbackSpec{ToBefore: true, Batches: ru.InBatches(2), MinInService: -1}), ru.StatusSucceeded)
		diff(t, "kinds", []provider.Kind{provider.ImageUpdate, provider.ImageUpdate}, p.kinds)
	})
}
