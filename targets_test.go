package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A whole image upgrade of one instance, and of one that was protected, as the cloud sees it.
var (
	wholeUpgrade   = []string{"EnterStandby", "StopInstances", "ReplaceSystemDisk", "StartInstances", "ExitStandby"}
	wholeProtected = slices.Concat([]string{"SetInstancesProtection"}, wholeUpgrade, []string{"SetInstancesProtection"})
)

func TestS1_ManyInstancesBatchByBatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 7)
		id := b.create(imageSpec(3))
		task := b.runTo(id, ru.StatusSucceeded)

		diff(t, "batches", [][]string{idRange(1, 2), idRange(3, 4), idRange(5, 7)}, batches(task))
		for _, i := range b.cloud.Snapshot(fake.DemoGroup) {
			if i.ImageID != fake.DemoNewImage || i.Lifecycle != provider.InService || i.Power != provider.Running {
				t.Errorf("%s runs %s, is %s and %s", i.ID, i.ImageID, i.Lifecycle, i.Power)
			}
			diff(t, "effects on "+i.ID, wholeUpgrade, b.effects(i.ID))
		}
		back := map[string]bool{}
		for _, e := range b.cloud.Effects() {
			switch e.Action {
			case "ExitStandby":
				back[e.InstanceID] = true
			case "EnterStandby":
				for _, batch := range batches(task) {
					if slices.Contains(batch, e.InstanceID) {
						break
					}
					for _, before := range batch {
						if !back[before] {
							t.Errorf("%s leaves service while %s of an earlier batch is not back", e.InstanceID, before)
						}
					}
				}
			}
		}
	})
}

func TestS2_OtherLifecycleStatesAreLeftAlone(t *testing.T) {
	for _, state := range []provider.Lifecycle{
		provider.Protected, provider.Standby, provider.Pending, provider.PendingWait, provider.OutOfUse, provider.Removing, provider.RemovingWait,
	} {
		bubbled(t, string(state), func(t *testing.T) {
			b := demoBed(t, 3)
			b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ID: "i-other", Lifecycle: state})

			plan, err := b.r.Plan(b.ctx(), imageSpec(1))
			b.ok(err)
			diff(t, "excluded", []ru.Exclusion{{InstanceID: "i-other", Reason: "is " + string(state)}}, plan.Excluded)
			diff(t, "instances of the plan", idRange(1, 3), plan.Batches[0].InstanceIDs)

			task := b.runTo(b.create(imageSpec(1, everything)), ru.StatusSucceeded)
			row := rowOf(task, "i-other")
			if row.Status != ru.InstanceExcluded || row.Batch != 0 || row.Note != "is "+string(state) {
				t.Errorf("row of the instance left alone: %+v", row)
			}
			diff(t, "effects", []string(nil), b.effects("i-other"))
			i := b.instance("i-other")
			if i.Lifecycle != state || i.ImageID != fake.DemoOldImage {
				t.Errorf("the instance is %s and runs %s", i.Lifecycle, i.ImageID)
			}
		})
	}
}

// What counts is the state when the task starts, not that when it was created.
func TestS2_StateAtTheStartCounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0001") })
		id := b.create(imageSpec(1, everything))
		b.cloud.Now(func(w *fake.World) {
			w.SetLifecycle(provider.InService, "i-0001")
			w.SetLifecycle(provider.Standby, "i-0004")
		})
		task := b.runTo(id, ru.StatusSucceeded)
		diff(t, "batches", [][]string{idRange(1, 3)}, batches(task))
		diff(t, "effects on the one that left service", []string(nil), b.effects("i-0004"))
		diff(t, "excluded", "is Standby", rowOf(task, "i-0004").Note)
	})
}

func TestS2_ProtectionLiftedBeforeAndSetAgainAfter(t *testing.T) {
	for _, kind := range []string{"image", "script"} {
		bubbled(t, kind, func(t *testing.T) {
			b := demoBed(t, 4)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0002") })
			spec, during := imageSpec(1), wholeProtected
			if kind == "script" {
				spec, during = scriptSpec(1), []string{"SetInstancesProtection", "EnterStandby", "RunCommand", "ExitStandby", "SetInstancesProtection"}
			}
			spec.Batches = ru.BatchSpec{Sizes: []ru.Size{{Instances: 3}, {Instances: 1}}} // 1 of the 3 in service is left, and then 2
			spec.Targets.IncludeProtected = true
			id := b.create(spec)
			wait := b.start(id)
			task := b.untilStep(id, "i-0002", ru.Updating)
			diff(t, "leftovers while it is updated", []string{"standby i-0002", "protection i-0002"}, onlyOf(leftovers(task), "i-0002"))
			b.wantStatus(wait(), ru.StatusSucceeded)

			diff(t, "effects", during, b.effects("i-0002"))
			diff(t, "members", map[string]provider.Lifecycle{
				"i-0001": provider.InService, "i-0002": provider.Protected, "i-0003": provider.InService, "i-0004": provider.InService,
			}, b.members())
			var details []string
			for _, e := range b.cloud.Effects() {
				if e.Action == "SetInstancesProtection" {
					details = append(details, e.InstanceID+" "+e.Detail)
				}
			}
			diff(t, "changes of protection", []string{"i-0002 false", "i-0002 true"}, details)
			if back, set := b.effectTime("ExitStandby", "i-0002"), b.effectTime("SetInstancesProtection", "i-0002"); set.Before(back) {
				t.Errorf("protected at %s, back in service at %s", set, back)
			}
			diff(t, "leftovers", []string(nil), leftovers(b.task(id)))
		})
	}
}

func onlyOf(all []string, instanceID string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return !strings.HasSuffix(s, " "+instanceID) })
}

func TestS2_IncludeAndExclude(t *testing.T) {
	for _, test := range []struct {
		name     string
		targets  ru.TargetSpec
		want     []string
		excluded map[string]string
	}{
		{
			"include",
			ru.TargetSpec{Include: []string{"i-0004", "i-0002"}},
			[]string{"i-0002", "i-0004"},
			map[string]string{"i-0001": "not included by the spec", "i-0003": "not included by the spec", "i-0005": "not included by the spec"},
		},
		{
			"exclude",
			ru.TargetSpec{Exclude: []string{"i-0001"}},
			[]string{"i-0002", "i-0003", "i-0004"},
			map[string]string{"i-0001": "excluded by the spec", "i-0005": "is Protected"},
		},
		{
			"include and exclude",
			ru.TargetSpec{Include: []string{"i-0003"}, Exclude: []string{"i-0001"}},
			[]string{"i-0003"},
			map[string]string{"i-0001": "excluded by the spec", "i-0002": "not included by the spec", "i-0004": "not included by the spec", "i-0005": "not included by the spec"},
		},
		{
			"exclude one that does not exist",
			ru.TargetSpec{Exclude: []string{"i-none"}},
			idRange(1, 4),
			map[string]string{"i-0005": "is Protected"},
		},
		{
			"to be included does not lift protection",
			ru.TargetSpec{Include: []string{"i-0001", "i-0005"}},
			[]string{"i-0001"},
			map[string]string{"i-0002": "not included by the spec", "i-0003": "not included by the spec", "i-0004": "not included by the spec", "i-0005": "is Protected"},
		},
		{
			"exclude a protected one",
			ru.TargetSpec{IncludeProtected: true, Exclude: []string{"i-0005"}},
			idRange(1, 4),
			map[string]string{"i-0005": "excluded by the spec"},
		},
	} {
		bubbled(t, test.name, func(t *testing.T) {
			b := demoBed(t, 5)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0005") })
			spec := imageSpec(1, everything)
			spec.Targets = test.targets
			plan, err := b.r.Plan(b.ctx(), spec)
			b.ok(err)
			excluded := map[string]string{}
			for _, e := range plan.Excluded {
				excluded[e.InstanceID] = e.Reason
			}
			diff(t, "excluded", test.excluded, excluded)

			b.runTo(b.create(spec), ru.StatusSucceeded)
			var changed []string
			for _, id := range idRange(1, 5) {
				if len(b.effects(id)) > 0 {
					changed = append(changed, id)
				}
			}
			diff(t, "instances changed", test.want, changed)
		})
	}
}

func TestS2_UpToDateIsSkipped(t *testing.T) {
	setUp := func(t *testing.T, n int) *bed {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.SetImage(fake.DemoNewImage, idRange(1, n)...) })
		return b
	}
	skip := func(s *ru.Spec) { s.Targets.SkipUpToDate = true }
	bubbled(t, "some", func(t *testing.T) {
		b := setUp(t, 2)
		plan, err := b.r.Plan(b.ctx(), imageSpec(2, skip))
		b.ok(err)
		diff(t, "up to date", idRange(1, 2), plan.UpToDate)
		task := b.runTo(b.create(imageSpec(2, skip)), ru.StatusSucceeded)
		diff(t, "batches", [][]string{{"i-0003"}, {"i-0004"}}, batches(task))
		diff(t, "statuses", map[string]string{
			"i-0001": "succeeded (up to date)", "i-0002": "succeeded (up to date)", "i-0003": "succeeded", "i-0004": "succeeded",
		}, statuses(task))
		diff(t, "progress", ru.Progress{Total: 4, Succeeded: 4, UpToDate: 2}, task.Progress)
		diff(t, "effects", []string(nil), append(b.effects("i-0001"), b.effects("i-0002")...))
	})
	bubbled(t, "all", func(t *testing.T) {
		b := setUp(t, 4)
		task := b.runTo(b.create(imageSpec(2, skip)), ru.StatusSucceeded)
		diff(t, "progress", ru.Progress{Total: 4, Succeeded: 4, UpToDate: 4}, task.Progress)
		for _, id := range idRange(1, 4) {
			diff(t, "effects on "+id, []string(nil), b.effects(id))
		}
		diff(t, "suspended", []provider.Process(nil), b.suspended())
	})
	bubbled(t, "not asked for", func(t *testing.T) {
		b := setUp(t, 2)
		task := b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
		diff(t, "progress", ru.Progress{Total: 4, Succeeded: 4}, task.Progress)
		diff(t, "effects", wholeUpgrade, b.effects("i-0001"))
	})
	bubbled(t, "a protected one stays protected", func(t *testing.T) {
		b := setUp(t, 1)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
		task := b.runTo(b.create(imageSpec(2, skip, func(s *ru.Spec) { s.Targets.IncludeProtected = true })), ru.StatusSucceeded)
		diff(t, "status", "succeeded (up to date)", shown(rowOf(task, "i-0001")))
		diff(t, "effects", []string(nil), b.effects("i-0001"))
	})
}

// tagger is an own kind of update: it puts a tag on instances. It follows the contract of [provider.Updater]: the
// first look only says what is to be done.
type tagger struct {
	mu    sync.Mutex
	tags  map[string]string
	fails map[string]int // how often it still fails
	calls []string
}

const tagKind provider.Kind = "tag"

func (g *tagger) Update(_ context.Context, groupID string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	var params struct{ Value string }
	if err := json.Unmarshal(u.Params, &params); err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrInvalid, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []provider.Progress
	for _, target := range targets {
		id, p := target.InstanceID, provider.Progress{InstanceID: target.InstanceID}
		g.calls = append(g.calls, fmt.Sprintf("%s %s attempt %d acts %t", groupID, id, target.Attempt, target.CallID != ""))
		switch {
		case g.tags[id] == params.Value:
			p.Done, p.Outcome = true, provider.Updated
		case target.CallID == "":
			p.Act, p.State = true, json.RawMessage(`"tag"`)
		case g.fails[id] > 0:
			g.fails[id]--
			p.Err = fmt.Errorf("%w: no room for a tag", provider.ErrFailed)
		default:
			g.tags[id] = params.Value
			p.Phase, p.Wait = "tagging", 5*time.Second
		}
		all = append(all, p)
	}
	return all, nil
}

// idler is an own kind of update that does nothing and says so.
type idler struct{}

func (idler) Update(_ context.Context, _ string, _ provider.Update, targets []provider.Target) (all []provider.Progress, err error) {
	for _, t := range targets {
		all = append(all, provider.Progress{InstanceID: t.InstanceID, Done: true, Outcome: provider.NotUpdated})
	}
	return all, nil
}

func tagSpec(value string) ru.Spec {
	s := imageSpec(2)
	s.Update = ru.Update{Kind: tagKind, Params: json.RawMessage(`{"Value":"` + value + `"}`)}
	s.Rollback = ru.Update{Kind: tagKind, Params: json.RawMessage(`{"Value":"old"}`)}
	return s
}

func TestS4_OwnKinds(t *testing.T) {
	bubbled(t, "upgrade, retry and rollback", func(t *testing.T) {
		g := &tagger{tags: map[string]string{}, fails: map[string]int{"i-0003": 1}}
		b := newBed(t, fake.Demo(fake.Config{}, 4), ru.Config{Kinds: map[provider.Kind]provider.Updater{tagKind: g}})
		id := b.create(tagSpec("new"))
		task := b.runTo(id, ru.StatusFailurePaused)
		diff(t, "statuses", map[string]string{"i-0001": "succeeded", "i-0002": "succeeded", "i-0003": "failed", "i-0004": "succeeded"}, statuses(task))
		if e := rowOf(task, "i-0003").Error; e == nil || !strings.Contains(e.Text, "no room for a tag") || e.Kind != provider.ErrFailed.Error() {
			t.Errorf("error of the instance: %+v", e)
		}
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0003"}))
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "tags", map[string]string{"i-0001": "new", "i-0002": "new", "i-0003": "new", "i-0004": "new"}, g.tags)
		for _, i := range idRange(1, 4) {
			diff(t, "effects on "+i, []string{"EnterStandby", "ExitStandby"}, b.effects(i))
		}
		if !slices.Contains(g.calls, fake.DemoGroup+" i-0003 attempt 2 acts true") {
			t.Errorf("no second attempt: %v", g.calls)
		}

		b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "tags after the rollback", map[string]string{"i-0001": "old", "i-0002": "old", "i-0003": "old", "i-0004": "old"}, g.tags)
	})
	bubbled(t, "one that comes to an end without an update has failed", func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{}, 2), ru.Config{Kinds: map[provider.Kind]provider.Updater{tagKind: idler{}}})
		task := b.runTo(b.create(tagSpec("new")), ru.StatusFailurePaused)
		row := rowOf(task, "i-0001")
		if row.Outcome != provider.NotUpdated || row.Error == nil || row.Error.Kind != provider.ErrFailed.Error() {
			t.Errorf("row: %+v, error %+v", row, row.Error)
		}
		diff(t, "in Standby", []string{"i-0001"}, b.inState(provider.Standby))
	})
	bubbled(t, "unknown kind", func(t *testing.T) {
		b := demoBed(t, 2)
		_, err := b.r.Create(b.ctx(), tagSpec("new"))
		wantError(t, err, ru.ErrInvalid)
		if field := new(ru.FieldError); !errors.As(err, &field) || field.Field != "Spec.Update.Kind" {
			t.Errorf("error %v does not name the field", err)
		}
		b.untouched()
	})
	bubbled(t, "the library's own kinds cannot be replaced", func(t *testing.T) {
		for _, k := range []provider.Kind{provider.ImageUpdate, provider.ScriptUpdate} {
			_, err := ru.New(fake.NewCloud(fake.Config{}), ru.NewMemoryStore(), ru.Config{Kinds: map[provider.Kind]provider.Updater{k: &tagger{}}})
			wantError(t, err, ru.ErrInvalid)
		}
	})
}

// Whoever goes back in service late has the whole time for its protection all the same.
func TestS2_N6_ProtectionHasADeadlineOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
		id := b.create(scriptSpec(3, func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.cloud.Inject( // of 10 minutes each
			fake.Fault{Op: "ExitStandby", Target: "i-0001", Until: 8 * time.Minute, Count: -1, Err: provider.ErrThrottled},
			fake.Fault{Op: "SetProtection", Target: "i-0001", Until: 16 * time.Minute, Count: -1, Err: provider.ErrThrottled},
		)
		b.wantStatus(wait(), ru.StatusSucceeded)
		diff(t, "members", map[string]provider.Lifecycle{
			"i-0001": provider.Protected, "i-0002": provider.InService, "i-0003": provider.InService,
		}, b.members())
	})
}

// Where nobody knows whether protection was lifted, a retry looks and lifts what is not lifted.
func TestS2_N2_RetryAfterAnUnknownProtection(t *testing.T) {
	for _, lost := range []bool{false, true} {
		bubbled(t, map[bool]string{false: "not lifted", true: "lifted"}[lost], func(t *testing.T) {
			b := demoBed(t, 2)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
			b.cloud.Inject(fake.Fault{Op: "SetProtection", Target: "i-0001", Until: 20 * time.Minute, Count: -1, Err: provider.ErrTransient, Lost: lost})
			id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Targets.IncludeProtected, s.MinInService = true, -1 }))
			task := b.runTo(id, ru.StatusFailurePaused)
			diff(t, "kind of error", "outcome unknown", rowOf(task, "i-0001").Error.Kind)
			time.Sleep(20 * time.Minute)
			b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
			b.runTo(id, ru.StatusSucceeded)
			diff(t, "effects", []string{"SetInstancesProtection", "EnterStandby", "RunCommand", "ExitStandby", "SetInstancesProtection"}, b.effects("i-0001"))
			diff(t, "lifecycle", provider.Protected, b.instance("i-0001").Lifecycle)
		})
	}
}
