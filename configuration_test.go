package rollingupgrade_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

const (
	activeConfiguration = "asc-" + fake.DemoGroup
	otherConfiguration  = "asc-other"
	modify              = "ModifyScalingConfiguration"
)

// configurations are the images of all scaling configurations and launch templates of the group, by ID.
func (b *bed) configurations() map[string]string {
	b.t.Helper()
	all, err := b.cloud.API().DescribeScalingConfigurations(b.ctx(), fake.DemoGroup, nil)
	b.ok(err)
	images := map[string]string{}
	for _, c := range all {
		images[c.ID] = c.ImageID
	}
	return images
}

// configuredBed returns a bed on a group of four instances with a second configuration, which is not active.
func configuredBed(t *testing.T, group fake.GroupSpec) *bed {
	t.Helper()
	group.Instances = 4
	b := groupBed(t, group)
	b.cloud.Now(func(w *fake.World) {
		w.AddConfiguration(fake.DemoGroup, provider.Configuration{ID: otherConfiguration, ImageID: "img-v0"})
	})
	return b
}

// modified is how often the client has changed a configuration.
func (b *bed) modified() int { return b.cloud.CountEffects(modify, "") }

func TestS18_WhenTheConfigurationGetsTheImage(t *testing.T) {
	for _, test := range []struct {
		name  string
		spec  ru.Spec
		pause string // image in the pause after batch 1
		end   string
	}{
		{"by default after success", imageSpec(2), fake.DemoOldImage, fake.DemoNewImage},
		{"after success", imageSpec(2, func(s *ru.Spec) { s.Configuration = ru.ConfigurationAfterSuccess }), fake.DemoOldImage, fake.DemoNewImage},
		{"after the first batch", imageSpec(2, earlyImage), fake.DemoNewImage, fake.DemoNewImage},
		{"never", imageSpec(2, keepImage), fake.DemoOldImage, fake.DemoOldImage},
		{"not with a script", scriptSpec(2), fake.DemoOldImage, fake.DemoOldImage},
	} {
		bubbled(t, test.name, func(t *testing.T) {
			b := configuredBed(t, fake.GroupSpec{})
			id := b.create(test.spec)
			diff(t, "image after Create", fake.DemoOldImage, b.image())
			pausing(ru.PauseEveryBatch)(&test.spec)
			b.ok(b.r.Cancel(b.ctx(), id, ""))
			id = b.create(test.spec)
			wait := b.start(id)
			b.untilStep(id, "i-0001", ru.Updating)
			diff(t, "image during batch 1", fake.DemoOldImage, b.image())
			b.wantStatus(wait(), ru.StatusBatchPaused)
			diff(t, "image in the pause", test.pause, b.image())
			b.ok(b.r.Continue(b.ctx(), id))
			wait = b.start(id)
			b.untilStep(id, "i-0004", ru.Updating)
			diff(t, "image during batch 2", test.pause, b.image())
			b.wantStatus(wait(), ru.StatusSucceeded)
			diff(t, "configurations", map[string]string{activeConfiguration: test.end, otherConfiguration: "img-v0"}, b.configurations())

			if test.end == fake.DemoOldImage {
				diff(t, "changes", 0, b.modified())
				return
			}
			diff(t, "changes", 1, b.modified())
			at := b.effectTime(modify, "")
			if resumed := b.effectTime("ResumeProcesses", ""); !at.Before(resumed) {
				t.Errorf("set at %s, ScaleOut resumed at %s", at, resumed)
			}
			last := "i-0004"
			if test.pause == fake.DemoNewImage {
				last = "i-0002"
			}
			if done := b.effectTime("ExitStandby", last); !at.After(done) {
				t.Errorf("set at %s, %s was done at %s", at, last, done)
			}
			b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, time.Minute, 1, 0) })
			diff(t, "image of an instance of a later scale-out", fake.DemoNewImage, b.instance("i-0005").ImageID)
		})
	}
}

func TestS18_NotWithoutSuccess(t *testing.T) {
	for name, spec := range map[string]ru.Spec{"after success": imageSpec(2), "after the first batch": imageSpec(2, earlyImage)} {
		bubbled(t, name, func(t *testing.T) {
			b := configuredBed(t, fake.GroupSpec{})
			b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
			id := b.create(spec)
			b.runTo(id, ru.StatusFailurePaused)
			b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0001"}))
			b.runTo(id, ru.StatusFailed)
			diff(t, "configurations", map[string]string{activeConfiguration: fake.DemoOldImage, otherConfiguration: "img-v0"}, b.configurations())
			diff(t, "changes", 0, b.modified())
		})
	}
}

func TestS18_LaunchTemplateIsNeverTouched(t *testing.T) {
	for name, change := range map[string]func(*ru.Spec){"after success": func(*ru.Spec) {}, "after the first batch": earlyImage} {
		bubbled(t, name, func(t *testing.T) {
			b := configuredBed(t, fake.GroupSpec{LaunchTemplateID: "lt-1"})
			id := b.create(imageSpec(2, change)) // the plan says it: see S7
			b.runTo(id, ru.StatusSucceeded)
			diff(t, "configurations", map[string]string{"lt-1": fake.DemoOldImage, otherConfiguration: "img-v0"}, b.configurations())
			for _, op := range b.ops() {
				if op == "SetConfigurationImage" {
					t.Error("SetConfigurationImage was called")
				}
			}
			events := b.events(id, ru.EventImage)
			if len(events) == 0 {
				t.Error("no event says so")
			}
			for _, e := range events {
				if !strings.Contains(e.Text, "lt-1, which still names image img-v1") {
					t.Errorf("event: %+v", e)
				}
			}
		})
	}
}

func TestS18_ConfigurationAsItIsAtTheTime(t *testing.T) {
	disks := json.RawMessage(`[{"Size":100}]`)
	for name, test := range map[string]struct {
		before func(w *fake.World)
		want   map[string]string
		says   string
	}{
		"has the image already": {
			func(w *fake.World) { w.SetConfigurationImage(fake.DemoGroup, fake.DemoNewImage) },
			map[string]string{activeConfiguration: fake.DemoNewImage, otherConfiguration: "img-v0"},
			"",
		},
		"another one is active now": {
			func(w *fake.World) { w.Activate(fake.DemoGroup, otherConfiguration) },
			map[string]string{activeConfiguration: fake.DemoOldImage, otherConfiguration: fake.DemoNewImage},
			"asc-other now has image img-v2",
		},
		"has data disks of the image now": {func(w *fake.World) {
			w.AddConfiguration(fake.DemoGroup, provider.Configuration{ID: "asc-disks", ImageID: "img-v0", DataDisks: disks, DataDisksFromImage: true})
			w.Activate(fake.DemoGroup, "asc-disks")
		}, map[string]string{activeConfiguration: fake.DemoOldImage, otherConfiguration: "img-v0", "asc-disks": "img-v0"}, "would drop the data disks"},
		"a launch template feeds the group now": {func(w *fake.World) {
			w.AddConfiguration(fake.DemoGroup, provider.Configuration{ID: "lt-2", LaunchTemplate: true, ImageID: "img-v0"})
			w.Activate(fake.DemoGroup, "lt-2")
		}, map[string]string{activeConfiguration: fake.DemoOldImage, otherConfiguration: "img-v0", "lt-2": "img-v0"}, "lt-2, which still names image img-v0"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := configuredBed(t, fake.GroupSpec{})
			id := b.create(imageSpec(2))
			b.cloud.After(5*time.Minute, test.before)
			b.runTo(id, ru.StatusSucceeded)
			diff(t, "configurations", test.want, b.configurations())
			events := b.events(id, ru.EventImage)
			if test.says == "" {
				diff(t, "events", 0, len(events))
				diff(t, "changes", 0, b.modified())
			} else if len(events) != 1 || !strings.Contains(events[0].Text, test.says) {
				t.Errorf("events %+v, want one that says %q", events, test.says)
			}
		})
	}
}

func TestS18_DataDisksNeedConsent(t *testing.T) {
	group := fake.GroupSpec{DataDisks: json.RawMessage(`[{"Size":100}]`), DataDisksFromImage: true}
	consent := func(s *ru.Spec) { s.Consent.DataDiskLoss = true }
	bubbled(t, "refused without", func(t *testing.T) {
		b := configuredBed(t, group)
		_, err := b.r.Create(b.ctx(), imageSpec(2))
		wantError(t, err, ru.ErrPrecheck)
		b.untouched()
	})
	bubbled(t, "dropped with, and put back by a rollback", func(t *testing.T) {
		b := configuredBed(t, group)
		id := b.create(imageSpec(2, consent))
		task := b.runTo(id, ru.StatusSucceeded)
		disks := byFace(group.DataDisks, json.RawMessage(`[{"size":100,"snapshot_id":"s-img-v1","delete_with_instance":false}]`)) // in the provider's form
		old := provider.Configuration{ID: activeConfiguration, ImageID: fake.DemoOldImage, DataDisks: disks, DataDisksFromImage: true}
		diff(t, "old values in the ledger", old, task.Ledger.Image.Old)
		c, err := b.cloud.Configuration(b.ctx(), fake.DemoGroup)
		b.ok(err)
		diff(t, "configuration", provider.Configuration{ID: activeConfiguration, ImageID: fake.DemoNewImage}, c)

		b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		c, err = b.cloud.Configuration(b.ctx(), fake.DemoGroup)
		b.ok(err)
		disks = byFace(group.DataDisks, json.RawMessage(`[{"DeleteWithInstance":"false","Size":"100","SnapshotId":"s-img-v1"}]`)) // as it came in a request
		diff(t, "image and data disks after the rollback", []string{fake.DemoOldImage, string(disks)}, []string{c.ImageID, string(c.DataDisks)})
	})
}

func TestS18_RollbackRestoresIfStillOurs(t *testing.T) {
	upgraded := map[string]string{activeConfiguration: fake.DemoNewImage, otherConfiguration: "img-v0"}
	asBefore := map[string]string{activeConfiguration: fake.DemoOldImage, otherConfiguration: "img-v0"}
	for name, test := range map[string]struct {
		spec   ru.Spec
		update ru.Update // of the rollback
		change func(w *fake.World)
		want   map[string]string
	}{
		"still ours":             {spec: imageSpec(2), want: asBefore},
		"set early":              {spec: imageSpec(2, earlyImage), want: asBefore},
		"rolled back to another": {spec: imageSpec(2), update: ru.Image("img-x"), want: asBefore},
		"never set":              {spec: imageSpec(2, keepImage), want: asBefore},
		"never set by the task, set by somebody": {
			spec: imageSpec(2, keepImage), want: upgraded,
			change: func(w *fake.World) { w.SetConfigurationImage(fake.DemoGroup, fake.DemoNewImage) },
		},
		"somebody has set another image": {
			spec: imageSpec(2), want: map[string]string{activeConfiguration: "img-x", otherConfiguration: "img-v0"},
			change: func(w *fake.World) { w.SetConfigurationImage(fake.DemoGroup, "img-x") },
		},
		"another one is active": {
			spec: imageSpec(2), want: upgraded,
			change: func(w *fake.World) { w.Activate(fake.DemoGroup, otherConfiguration) },
		},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := configuredBed(t, fake.GroupSpec{})
			addImage(provider.Image{})(b)
			id := b.create(test.spec)
			b.runTo(id, ru.StatusSucceeded)
			if test.change != nil {
				b.cloud.Now(test.change)
			}
			back := b.rollback(id, ru.RollbackSpec{Update: test.update, Batches: ru.InBatches(2)})
			wait := b.start(back)
			before := b.configurations()
			b.untilStep(back, "i-0004", ru.Updating)
			diff(t, "configurations while it is rolled back", before, b.configurations())
			task := wait()
			b.wantStatus(task, ru.StatusSucceeded)
			diff(t, "configurations", test.want, b.configurations())
			diff(t, "leftovers", []string(nil), leftovers(task))
			effects := b.cloud.Effects()
			if last := effects[len(effects)-1].Action; last != "ResumeProcesses" {
				t.Errorf("the last effect is %s, want ResumeProcesses", last)
			}
		})
	}
	bubbled(t, "of a waiting task that had set it early", func(t *testing.T) {
		b := configuredBed(t, fake.GroupSpec{})
		id := b.create(imageSpec(2, earlyImage, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		diff(t, "configurations", upgraded, b.configurations())
		b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "configurations after the rollback", asBefore, b.configurations())
	})
}

// What goes wrong with the configuration holds the task, with the processes suspended, until the operator has looked.
func TestS18_TroubleHoldsTheTask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := configuredBed(t, fake.GroupSpec{})
		b.cloud.Inject(fake.Fault{Op: "SetConfigurationImage", Nth: 1, Err: provider.ErrPermission})
		id := b.create(imageSpec(2))
		task := b.runTo(id, ru.StatusBatchPaused)
		if p := task.Pause; p.Why != ru.PausedByError || !strings.Contains(p.Text, provider.ErrPermission.Error()) {
			t.Errorf("pause: %+v", p)
		}
		diff(t, "suspended", provider.Processes(), b.suspended())
		diff(t, "leftovers", true, slices.Contains(leftovers(task), "image "+activeConfiguration))
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "image", fake.DemoNewImage, b.image())
		diff(t, "suspended at the end", []provider.Process(nil), b.suspended())
	})
}

// A task that takes over an image which another one has set sets its own all the same, and only once.
func TestS18_OwnImageAfterATakenOverOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := configuredBed(t, fake.GroupSpec{})
		addImage(provider.Image{})(b)
		first := b.create(imageSpec(2, earlyImage, pausing(ru.PauseFirstBatch)))
		b.runTo(first, ru.StatusBatchPaused)
		b.ok(b.r.Cancel(b.ctx(), first, ""))
		second := b.create(imageSpec(2, earlyImage, image("img-x")))
		b.cloud.ClearLog()
		task := b.runTo(second, ru.StatusSucceeded)
		diff(t, "configurations", map[string]string{activeConfiguration: "img-x", otherConfiguration: "img-v0"}, b.configurations())
		diff(t, "whose image it is", second, task.Ledger.Image.TaskID)
		diff(t, "looks at the configuration", 1, b.calls("Configuration"))
	})
}

// An image that cannot be put back is the only thing that the restore complains about.
func TestS25_RestoreSaysWhatItCouldNotPutBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := configuredBed(t, fake.GroupSpec{})
		id := b.create(imageSpec(2, earlyImage, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.cloud.Inject(fake.Fault{Op: "SetConfigurationImage", Err: provider.ErrInvalid})
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{Kinds: []ru.LeftoverKind{ru.LeftoverImage}}))
		if text := b.run(id).Restore.Error; !strings.HasPrefix(text, "configuration image: ") || !strings.Contains(text, "invalid request") {
			t.Errorf("error of the restore: %q", text)
		}
		b.cloud.ClearFaults()
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{Kinds: []ru.LeftoverKind{ru.LeftoverImage}}))
		diff(t, "error of a restore that works", "", b.run(id).Restore.Error)
		diff(t, "configurations", map[string]string{activeConfiguration: fake.DemoOldImage, otherConfiguration: "img-v0"}, b.configurations())
	})
}

// A configuration that is gone does not keep a task from its end, nor a restore.
func TestS18_ConfigurationIsGone(t *testing.T) {
	for name, test := range map[string]struct {
		op    string
		spec  ru.Spec
		pause bool
	}{
		"read after success":         {"Configuration", imageSpec(2), false},
		"set after success":          {"SetConfigurationImage", imageSpec(2), false},
		"read after the first batch": {"Configuration", imageSpec(2, earlyImage, pausing(ru.PauseFirstBatch)), true},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := configuredBed(t, fake.GroupSpec{})
			id := b.create(test.spec)
			b.cloud.Inject(fake.Fault{Op: test.op, Err: provider.ErrNotFound})
			if test.pause {
				b.runTo(id, ru.StatusBatchPaused)
				b.ok(b.r.Continue(b.ctx(), id))
			}
			task := b.runTo(id, ru.StatusSucceeded)
			diff(t, "leftovers", []string(nil), leftovers(task))
			found := false
			for _, e := range b.events(id, ru.EventImage) {
				found = found || strings.Contains(e.Text, "the scaling configuration was not found")
			}
			diff(t, "an event says so", true, found)
		})
	}
}
