package aliyun_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// storm are faults of the wire of every kind, on a share of all calls for the first hours.
func storm(share float64) []openapi.Fault {
	const until = 4 * time.Hour
	return []openapi.Fault{
		{Reply: openapi.ReplyCut, Effect: true, Chance: share, Until: until},
		{Reply: openapi.ReplyCut, Chance: share, Until: until},
		{Reply: openapi.ReplyError, Effect: true, Chance: share, Until: until},
		{Reply: openapi.ReplyError, Chance: share, Until: until},
		{Reply: openapi.ReplyError, Status: 500, Code: "InternalError", Effect: true, Chance: share, Until: until},
		{Reply: openapi.ReplyEmpty, Effect: true, Chance: share, Until: until},
		{Reply: openapi.ReplyBroken, Effect: true, Chance: share, Until: until},
		{Reply: openapi.ReplyError, Status: 400, Code: "Throttling.User", RetryAfter: 3 * time.Second, Chance: share, Until: until},
		{Delay: 90 * time.Second, Chance: share / 4, Until: until},
	}
}

// TestSoak drives upgrades and their rollbacks through storms on the wire. Nothing is lost, doubled or left over.
func TestSoak(t *testing.T) {
	for seed := range uint64(6) {
		for _, tt := range []struct {
			name         string
			update, back provider.Update
			effect       string
		}{
			{"image", ru.Image(fake.DemoNewImage), ru.Image(fake.DemoOldImage), "ReplaceSystemDisk"},
			{"script", ru.Script(provider.Shell, "up"), ru.Script(provider.Shell, "down"), "RunCommand"},
		} {
			t.Run(fmt.Sprint(tt.name, " ", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					soak(t, seed, tt.update, tt.back, tt.effect)
				})
			})
		}
	}
}

func soak(t *testing.T, seed uint64, update, back provider.Update, effect string) {
	ctx := t.Context()
	r, err := newRig(fake.Config{Seed: seed + 1, Jitter: 0.3}, openapi.Config{Seed: seed + 1}, 12, func(c *aliyun.Config) { c.FindsCommands = true })
	if err != nil {
		t.Fatal(err)
	}
	store := ru.NewMemoryStore()
	runner, err := ru.New(r.Provider, store, ru.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := runner.Create(ctx, ru.Spec{GroupID: fake.DemoGroup, Update: update, Rollback: back, Batches: ru.InBatches(3)})
	if err != nil {
		t.Fatal(err)
	}
	r.wire.Inject(storm(0.02)...)
	finish(t, r, runner, s.ID)
	for _, id := range r.cloud.InstanceIDs(fake.DemoGroup) {
		if n := r.cloud.CountEffects(effect, id); n != 1 {
			t.Errorf("%d times %s on %s", n, effect, id)
		}
	}
	rollback, err := runner.Rollback(ctx, s.ID, ru.RollbackSpec{})
	for range 100 { // its checks meet the storm too
		if err == nil {
			break
		}
		time.Sleep(5 * time.Second)
		rollback, err = runner.Rollback(ctx, s.ID, ru.RollbackSpec{})
	}
	if err != nil {
		t.Fatal(err)
	}
	finish(t, r, runner, rollback.ID)
	for _, i := range r.cloud.Snapshot(fake.DemoGroup) {
		if n := r.cloud.CountEffects(effect, i.ID); n != 2 {
			t.Errorf("%d times %s on %s after the rollback", n, effect, i.ID)
		}
		if i.ImageID != fake.DemoOldImage {
			t.Errorf("%s runs %s after the rollback", i.ID, i.ImageID)
		}
	}
	if v := r.cloud.Violations(); len(v) > 0 {
		t.Error(v)
	}
	if v := r.wire.Mismatches(); len(v) > 0 {
		t.Error(v)
	}
}

// finish runs a task to its end and holds that it has succeeded and left nothing over.
func finish(t *testing.T, r *rig, runner *ru.Runner, id string) {
	t.Helper()
	if err := runner.Run(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	task, err := runner.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if task.Status != ru.StatusSucceeded {
		t.Fatalf("task is %s: %s", task.Status, task.Reason)
	}
	g, _ := r.cloud.GroupView(fake.DemoGroup)
	if len(g.Suspended) > 0 || g.Count[provider.InService] != 12 {
		t.Errorf("group is left as %+v", g)
	}
	for _, i := range r.cloud.Snapshot(fake.DemoGroup) {
		if i.Power != provider.Running || i.Lifecycle != provider.InService {
			t.Errorf("%s is left %s, %s", i.ID, i.Power, i.Lifecycle)
		}
	}
}
