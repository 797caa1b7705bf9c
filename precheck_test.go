package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A precheck is one situation before a task, and everything that the plan has to say about it.
type precheck struct {
	name string
	// group is the group, of four instances unless it says otherwise; batches of two.
	group fake.GroupSpec
	setup func(b *bed)
	spec  ru.Spec
	// want are all findings, as "severity code instances".
	want []string
	// says is part of the text of the first of them.
	says string
}

// Findings of every image upgrade that sets the configuration's image.
const setsImage = "warning configuration_image []"

const clamped = "warning batches_clamped []"

func noRollback(s *ru.Spec)      { s.Rollback = ru.Update{} }
func keepImage(s *ru.Spec)       { s.Configuration = ru.ConfigurationNever }
func earlyImage(s *ru.Spec)      { s.Configuration = ru.ConfigurationAfterFirstBatch }
func include(id string) specEdit { return func(s *ru.Spec) { s.Targets.Include = []string{id} } }
func image(id string) specEdit   { return func(s *ru.Spec) { s.Update = ru.Image(id) } }
func least(n int) specEdit       { return func(s *ru.Spec) { s.MinInService = n } }

type specEdit = func(*ru.Spec)

func scriptType(t provider.ScriptType) specEdit {
	return func(s *ru.Spec) { s.Update.Script.Type, s.Rollback.Script.Type = t, t }
}

// world makes a setup from a change of the world.
func world(f func(w *fake.World)) func(*bed) {
	return func(b *bed) { b.cloud.Now(f) }
}

func addImage(i provider.Image) func(*bed) {
	i.ID = "img-x"
	return world(func(w *fake.World) { w.AddImages(i) })
}

func addInstance(i fake.InstanceSpec) func(*bed) {
	i.ID = "i-x"
	return world(func(w *fake.World) { w.AddInstances(fake.DemoGroup, 1, i) })
}

func groupPrechecks() []precheck {
	return []precheck{
		{name: "nothing to say but what happens to the configuration", spec: imageSpec(2), want: []string{setsImage}, says: "gets the new image when the task has succeeded"},
		{name: "group missing", spec: imageSpec(2, func(s *ru.Spec) { s.GroupID = "asg-none" }), want: []string{"error group_missing []"}, says: "asg-none"},
		{name: "group inactive", group: fake.GroupSpec{State: provider.GroupInactive}, spec: scriptSpec(2), want: []string{"error group_inactive []"}, says: "Inactive"},
		{name: "group being deleted", group: fake.GroupSpec{State: provider.GroupDeleting}, spec: scriptSpec(2), want: []string{"error group_inactive []"}, says: "Deleting"},
		{name: "group not of type ECS", group: fake.GroupSpec{Type: "ECI"}, spec: scriptSpec(2), want: []string{"error group_type []"}, says: "ECI"},
		{name: "group stopped by the service", group: fake.GroupSpec{SystemSuspended: true}, spec: scriptSpec(2), want: []string{"error group_stopped_by_service []"}},
		{name: "group held by another task", setup: func(b *bed) { b.create(scriptSpec(2)) }, spec: scriptSpec(2), want: []string{"error group_busy []"}, says: "held by task task-"},
		{name: "instance refresh running", group: fake.GroupSpec{RefreshID: "refresh-7"}, spec: scriptSpec(2), want: []string{"error instance_refresh []"}, says: "refresh-7"},
		{
			name: "activity in progress", setup: world(func(w *fake.World) { w.StartActivity(fake.DemoGroup, time.Minute, 0, 0) }), spec: scriptSpec(2),
			want: []string{"warning activity_in_progress []"}, says: "will wait",
		},
		{name: "desired capacity higher", group: fake.GroupSpec{DesiredCapacity: 5}, spec: scriptSpec(2), want: []string{"warning desired_capacity []"}, says: "desired capacity is 5 and the group has 4"},
		{name: "desired capacity lower", group: fake.GroupSpec{DesiredCapacity: 3}, spec: scriptSpec(2), want: []string{"warning desired_capacity []"}, says: "desired capacity is 3"},
		{name: "desired capacity of nothing", setup: world(func(w *fake.World) { w.SetDesiredCapacity(fake.DemoGroup, 0) }), spec: scriptSpec(2), want: []string{"warning desired_capacity []"}, says: "desired capacity is 0"},
		{name: "desired capacity as it is", group: fake.GroupSpec{DesiredCapacity: 4}, spec: scriptSpec(2)},
		{name: "no rollback counterpart", spec: scriptSpec(2, noRollback), want: []string{"warning no_rollback []"}},
		{name: "more batches than instances", spec: scriptSpec(9), want: []string{clamped}, says: "9 batches were asked for, there are instances for 4"},
		{name: "leftovers of an earlier task", setup: leaveBehind, spec: scriptSpec(2, least(1)), want: []string{"warning leftovers_taken_over [i-0001]"}},
		{name: "provider that cannot inspect", setup: func(b *bed) {
			b.use(func(f fake.Face) provider.Provider { return struct{ provider.Provider }{f} }, ru.Config{})
		}, spec: imageSpec(2), want: []string{"warning not_inspected []"}},
	}
}

// leaveBehind leaves i-0001 in Standby, with a failed script.
func leaveBehind(b *bed) {
	b.cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{ExitCode: 1}, {}}})
	id := b.create(scriptSpec(4))
	b.runTo(id, ru.StatusFailurePaused)
	b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{Kinds: []ru.LeftoverKind{ru.LeftoverProcess}}))
	b.runTo(id, ru.StatusCanceled)
	b.cloud.ClearLog()
}

func memberPrechecks() []precheck {
	return []precheck{
		{name: "no instance in service", setup: world(func(w *fake.World) { w.SetLifecycle(provider.Standby, idRange(1, 4)...) }), spec: scriptSpec(2), want: []string{"error no_instances []"}, says: "of 4 members"},
		{name: "none selected", spec: scriptSpec(2, func(s *ru.Spec) { s.Targets.Exclude = idRange(1, 4) }), want: []string{"error no_instances []"}},
		{name: "included, but no member", spec: scriptSpec(2, func(s *ru.Spec) { s.Targets.Include = []string{"i-0001", "i-none"} }), want: []string{"error unknown_include [i-none]", clamped}},
		{name: "instance not running", setup: world(func(w *fake.World) { w.SetPower(provider.Stopped, "i-0002") }), spec: imageSpec(2), want: []string{"error instance_not_running [i-0002]", setsImage}},
		{name: "instance locked", setup: addInstance(fake.InstanceSpec{Locks: []string{"security"}}), spec: scriptSpec(2), want: []string{"error instance_locked [i-x]"}},
		{name: "instance expired", setup: addInstance(fake.InstanceSpec{Expired: true}), spec: scriptSpec(2), want: []string{"error instance_expired [i-x]"}},
		{
			name: "what is left alone does not count", setup: addInstance(fake.InstanceSpec{Expired: true, Locks: []string{"security"}, Power: provider.Stopped, OS: "windows", NoPassword: true, CustomWeight: 7}),
			spec: scriptSpec(2, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-x"} }),
		},
		{name: "shell script on windows", setup: addInstance(fake.InstanceSpec{OS: "windows"}), spec: scriptSpec(2), want: []string{"error script_kind [i-x]"}, says: "RunShellScript does not run on windows"},
		{name: "bat script on linux", spec: scriptSpec(2, scriptType(provider.Bat), include("i-0001")), want: []string{"error script_kind [i-0001]", clamped}, says: "RunBatScript does not run on linux"},
		{name: "powershell script on linux", spec: scriptSpec(2, scriptType(provider.PowerShell), include("i-0001")), want: []string{"error script_kind [i-0001]", clamped}},
		{name: "powershell script on windows", setup: addInstance(fake.InstanceSpec{OS: "windows"}), spec: scriptSpec(1, scriptType(provider.PowerShell), include("i-x"))},
		{name: "agent offline", setup: world(func(w *fake.World) { w.SetAgentOffline(time.Hour, "i-0003") }), spec: scriptSpec(2), want: []string{"warning agent_offline [i-0003]"}, says: "when its turn comes"},
		{name: "agent offline and an image", setup: world(func(w *fake.World) { w.SetAgentOffline(time.Hour, "i-0003") }), spec: imageSpec(2), want: []string{setsImage}},
		{name: "login lost", setup: addInstance(fake.InstanceSpec{NoPassword: true}), spec: imageSpec(1, include("i-x")), want: []string{"error login_lost [i-x]", setsImage}, says: "Consent.LoginLoss"},
		{
			name: "login lost with consent", setup: addInstance(fake.InstanceSpec{NoPassword: true}), spec: imageSpec(1, include("i-x"), func(s *ru.Spec) { s.Consent.LoginLoss = true }),
			want: []string{setsImage, "warning login_lost [i-x]"},
		},
		{name: "login kept by a key pair", setup: addInstance(fake.InstanceSpec{NoPassword: true, KeyPair: "key"}), spec: imageSpec(1, include("i-x")), want: []string{setsImage}},
		{name: "login kept by a script", setup: addInstance(fake.InstanceSpec{NoPassword: true}), spec: scriptSpec(2)},
		{name: "individual weight", group: fake.GroupSpec{LoadBalancers: []string{"lb"}}, setup: addInstance(fake.InstanceSpec{CustomWeight: 7}), spec: scriptSpec(2), want: []string{"warning custom_weight [i-x]"}},
		{name: "snapshot policy", setup: addInstance(fake.InstanceSpec{Disk: provider.Disk{SnapshotPolicyID: "sp"}}), spec: imageSpec(2), want: []string{setsImage, "warning snapshot_policy [i-x]"}},
		{name: "snapshot policy kept by a script", setup: addInstance(fake.InstanceSpec{Disk: provider.Disk{SnapshotPolicyID: "sp"}}), spec: scriptSpec(2)},
		{name: "takes out everything", spec: scriptSpec(1), want: []string{"error capacity []"}, says: "batch 1 (4 instances) is at work, 0 of the 4 instances"},
		{name: "may take out everything", spec: scriptSpec(1, everything)},
		{name: "may take out all but one", spec: scriptSpec(1, least(1)), want: []string{"error capacity []"}, says: "at least 1 must"},
		{name: "goes below the least", spec: scriptSpec(2, least(3)), want: []string{"error capacity []"}, says: "at least 3 must"},
		{name: "goes down to the least", spec: scriptSpec(2, least(2))},
		{name: "only a later batch is too large", spec: scriptSpec(3, least(3)), want: []string{"error capacity []"}, says: "batch 3"},
		{name: "one at a time", spec: scriptSpec(2, least(3), func(s *ru.Spec) { s.MaxInFlight = 1 })},
		{
			name: "protected ones leave service too", setup: world(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001", "i-0002") }),
			spec: scriptSpec(1, func(s *ru.Spec) { s.Targets.IncludeProtected = true }), want: []string{"error capacity []"},
		},
		{
			name: "only protected ones", setup: world(func(w *fake.World) { w.SetLifecycle(provider.Protected, idRange(1, 4)...) }),
			spec: scriptSpec(1, func(s *ru.Spec) { s.Targets.IncludeProtected = true }), want: []string{"error capacity []"}, says: "every instance that serves",
		},
		{
			name: "only protected ones, in two batches", setup: world(func(w *fake.World) { w.SetLifecycle(provider.Protected, idRange(1, 4)...) }),
			spec: scriptSpec(2, func(s *ru.Spec) { s.Targets.IncludeProtected = true }),
		},
		{name: "a single instance", setup: world(func(w *fake.World) { w.Release(idRange(2, 4)...) }), spec: scriptSpec(1), want: []string{"error capacity []"}},
	}
}

func imagePrechecks() []precheck {
	x, launch := image("img-x"), fake.GroupSpec{LaunchTemplateID: "lt-1"}
	dataDisks := fake.GroupSpec{DataDisks: []byte(`[{"Size":100}]`), DataDisksFromImage: true}
	return []precheck{
		{name: "image missing", spec: imageSpec(2, x), want: []string{"error image_missing []", setsImage}, says: "img-x does not exist"},
		{name: "image not available", setup: addImage(provider.Image{Status: "Creating"}), spec: imageSpec(2, x), want: []string{"error image_unavailable []", setsImage}, says: "Creating"},
		{name: "image with data-disk snapshots", setup: addImage(provider.Image{DataDisks: true}), spec: imageSpec(2, x), want: []string{"error image_data_disks []", setsImage}},
		{name: "image not subscribed", setup: addImage(provider.Image{Unsubscribed: true}), spec: imageSpec(2, x), want: []string{"error image_not_subscribed []", setsImage}},
		{name: "image of another OS", setup: addImage(provider.Image{OS: "windows"}), spec: imageSpec(2, x), want: []string{"error image_os [i-0001 i-0002 i-0003 i-0004]", setsImage}, says: "windows"},
		{name: "image of another architecture", setup: addImage(provider.Image{Architecture: "arm64"}), spec: imageSpec(2, x), want: []string{"error image_architecture [i-0001 i-0002 i-0003 i-0004]", setsImage}, says: "arm64"},
		{name: "image larger than a system disk", setup: func(b *bed) {
			addImage(provider.Image{SizeGiB: 41})(b)
			addInstance(fake.InstanceSpec{Disk: provider.Disk{SizeGiB: 41}})(b)
		}, spec: imageSpec(2, x), want: []string{"error image_size [i-0001 i-0002 i-0003 i-0004]", setsImage}, says: "41 GiB"},
		{name: "image as large as the system disk", setup: addImage(provider.Image{SizeGiB: 40}), spec: imageSpec(2, x), want: []string{setsImage}},
		{name: "all up to date", spec: imageSpec(2, image(fake.DemoOldImage), func(s *ru.Spec) { s.Targets.SkipUpToDate = true }), want: []string{"warning all_up_to_date []"}},
		{name: "configuration after the first batch", spec: imageSpec(2, earlyImage), want: []string{setsImage}, says: "gets the new image after the first batch"},
		{name: "configuration never", spec: imageSpec(2, keepImage), want: []string{setsImage}, says: "keeps image img-v1"},
		{name: "configuration that has the image", spec: imageSpec(2, image(fake.DemoOldImage))},
		{name: "configuration that the provider cannot set", setup: func(b *bed) { b.use(func(f fake.Face) provider.Provider { return inspecting{f, f} }, ru.Config{}) }, spec: imageSpec(2), want: []string{setsImage}, says: "cannot change"},
		{name: "launch template", group: launch, spec: imageSpec(2), want: []string{"warning launch_template []"}, says: "lt-1, which is not changed and still names image img-v1"},
		{name: "data disks of the configuration lost", group: dataDisks, spec: imageSpec(2), want: []string{"error data_disk_loss []", setsImage}, says: "Consent.DataDiskLoss"},
		{name: "data disks lost with consent", group: dataDisks, spec: imageSpec(2, func(s *ru.Spec) { s.Consent.DataDiskLoss = true }), want: []string{setsImage, "warning data_disk_loss []"}},
		{name: "data disks kept with the configuration", group: dataDisks, spec: imageSpec(2, keepImage), want: []string{setsImage}},
		{name: "data disks of the configuration's own", group: fake.GroupSpec{DataDisks: []byte(`[{"Size":100}]`)}, spec: imageSpec(2), want: []string{setsImage}},
	}
}

// inspecting is a provider that can inspect and cannot set configurations.
type inspecting struct {
	provider.Provider
	provider.Inspector
}

// findings shows findings as "severity code instances".
func findings(all []ru.Finding) []string {
	var out []string
	for _, f := range all {
		out = append(out, fmt.Sprintf("%s %s %v", f.Severity, f.Code, f.InstanceIDs))
	}
	return out
}

func prechecks() []precheck {
	return append(append(groupPrechecks(), memberPrechecks()...), imagePrechecks()...)
}

func TestS7_Findings(t *testing.T) {
	for _, c := range prechecks() {
		bubbled(t, c.name, func(t *testing.T) {
			c.group.Instances = 4
			b := groupBed(t, c.group)
			if c.setup != nil {
				c.setup(b)
			}
			before := b.tasks()
			plan, err := b.r.Plan(b.ctx(), c.spec)
			b.ok(err)
			diff(t, "findings", c.want, findings(plan.Findings))
			if c.says != "" && (len(plan.Findings) == 0 || !strings.Contains(plan.Findings[0].Text, c.says)) {
				t.Errorf("the first of %v does not say %q", plan.Findings, c.says)
			}
			b.untouched()

			_, err = b.r.Create(b.ctx(), c.spec)
			b.untouched()
			busy := new(ru.GroupBusyError)
			refused := new(ru.PrecheckError)
			switch {
			case plan.OK():
				b.ok(err)
				diff(t, "tasks", before+1, b.tasks())
				return
			case errors.As(err, &busy): // said apart, see S6
				diff(t, "the only finding", []string{"error group_busy []"}, c.want)
			case errors.As(err, &refused):
				wantError(t, err, ru.ErrPrecheck)
				diff(t, "findings of Create", plan, refused.Plan)
			default:
				t.Errorf("Create: %v", err)
			}
			diff(t, "tasks", before, b.tasks())
		})
	}
}

// tasks is how many tasks the store has.
func (b *bed) tasks() int {
	b.t.Helper()
	n := 0
	for _, err := range b.r.List(b.ctx(), ru.Filter{}) {
		b.ok(err)
		n++
	}
	return n
}

// No check goes without a case.
func TestS7_EveryCodeHasACase(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "plan.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); ok && id.Name == "FindingCode" {
			code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[code] = true
		}
		return true
	})
	if len(codes) < 30 {
		t.Fatalf("only %d codes found in plan.go", len(codes))
	}
	for _, c := range prechecks() {
		for _, w := range c.want {
			delete(codes, strings.Fields(w)[1])
		}
	}
	for code := range codes {
		t.Errorf("no case for %s", code)
	}
}

func TestS7_AllFindingsTogetherErrorsFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := groupBed(t, fake.GroupSpec{Instances: 2, Type: "ECI", State: provider.GroupInactive, SystemSuspended: true, RefreshID: "r", DataDisks: json.RawMessage(`[{"Size":100}]`), DataDisksFromImage: true, LoadBalancers: []string{"lb"}, DesiredCapacity: 9})
		addImage(provider.Image{Status: "Creating", OS: "windows", Architecture: "arm64", SizeGiB: 50, DataDisks: true, Unsubscribed: true})(b)
		addInstance(fake.InstanceSpec{Locks: []string{"security"}, Expired: true, Power: provider.Stopped, NoPassword: true, CustomWeight: 3, Disk: provider.Disk{SnapshotPolicyID: "sp"}})(b)
		b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, time.Minute, 0, 0) })
		_, err := b.r.Create(b.ctx(), imageSpec(1, image("img-x"), noRollback, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-none"} }))
		refused := new(ru.PrecheckError)
		if !errors.As(err, &refused) {
			t.Fatalf("Create: %v", err)
		}
		all := "[i-0001 i-0002 i-x]"
		diff(t, "findings", []string{
			"error group_inactive []", "error group_type []", "error group_stopped_by_service []", "error instance_not_running [i-x]",
			"error instance_locked [i-x]", "error instance_expired [i-x]", "error capacity []", "error instance_refresh []",
			"error image_unavailable []", "error image_data_disks []", "error image_not_subscribed []", "error image_os " + all,
			"error image_architecture " + all, "error image_size " + all, "error data_disk_loss []", "error login_lost " + byFace("[i-x]", all), // the wire shows it of the whole configuration
			"warning activity_in_progress []", "warning desired_capacity []", setsImage, "warning custom_weight [i-x]",
			"warning snapshot_policy [i-x]", "warning no_rollback []",
		}, findings(refused.Plan.Findings))
		for _, f := range refused.Plan.Findings {
			if f.Severity == ru.SeverityError && !strings.Contains(err.Error(), f.Text) {
				t.Errorf("the error does not say %q", f.Text)
			}
		}
		b.untouched()
	})
}

func TestS7_ScriptEmptyOrTooLong(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "blank": " \n\t", "too long": strings.Repeat("x", ru.MaxScript*3/4+1)} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 2)
			for _, field := range []string{"Spec.Update.Script.Content", "Spec.Rollback.Script.Content"} {
				spec := scriptSpec(2)
				if strings.HasPrefix(field, "Spec.Update") {
					spec.Update.Script.Content = content
				} else {
					spec.Rollback.Script.Content = content
				}
				_, err := b.r.Create(b.ctx(), spec)
				wantField(t, err, field)
			}
			b.untouched()
		})
	}
	bubbled(t, "as long as it may be", func(t *testing.T) {
		b := demoBed(t, 2)
		b.create(scriptSpec(2, func(s *ru.Spec) { s.Update.Script.Content = strings.Repeat("x", ru.MaxScript*3/4) }))
	})
}

// wantField demands a typed error about a field.
func wantField(t testing.TB, err error, field string) {
	t.Helper()
	wantError(t, err, ru.ErrInvalid)
	if f := new(ru.FieldError); !errors.As(err, &f) || f.Field != field {
		t.Errorf("error %v, want one about the field %s", err, field)
	}
}

func TestS7_OfflineAgentFailsAtItsTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.SetAgentOffline(time.Hour, "i-0003") })
		task := b.runTo(b.create(scriptSpec(2)), ru.StatusFailurePaused)
		diff(t, "statuses", map[string]string{"i-0001": "succeeded", "i-0002": "succeeded", "i-0003": "failed", "i-0004": "succeeded"}, statuses(task))
		if e := rowOf(task, "i-0003").Error; e == nil || e.Step != ru.Updating {
			t.Errorf("error: %+v", e)
		}
	})
}

func TestS8_NoInstanceInServiceIsRefused(t *testing.T) {
	for name, group := range map[string]func(w *fake.World){
		"empty group": func(*fake.World) {},
		"only instances out of service": func(w *fake.World) {
			for _, l := range []provider.Lifecycle{provider.Standby, provider.Protected, provider.Pending} {
				w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: l})
			}
		},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 0)
			b.cloud.Now(group)
			_, err := b.r.Create(b.ctx(), imageSpec(1, everything))
			refused := new(ru.PrecheckError)
			if !errors.As(err, &refused) {
				t.Fatalf("Create: %v", err)
			}
			diff(t, "findings", []string{"error no_instances []", setsImage}, findings(refused.Plan.Findings))
			b.untouched()
			diff(t, "tasks", 0, b.tasks())
			diff(t, "suspended", []provider.Process(nil), b.suspended())
		})
	}
}

// sizeless is a provider that does not know how large disks are.
type sizeless struct{ fake.Face }

func (c sizeless) Inspect(ctx context.Context, g string, u provider.Update, ids []string) (provider.Inspection, error) {
	out, err := c.Face.Inspect(ctx, g, u, ids)
	for n := range out.Instances {
		out.Instances[n].Disk.SizeGiB = 0
	}
	return out, err
}

// What is not known about a disk is no reason to refuse an image.
func TestS7_DiskOfUnknownSize(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := groupBed(t, fake.GroupSpec{Instances: 4})
		addImage(provider.Image{SizeGiB: 100})(b)
		b.use(func(f fake.Face) provider.Provider { return sizeless{f} }, ru.Config{})
		plan, err := b.r.Plan(b.ctx(), imageSpec(2, image("img-x")))
		b.ok(err)
		diff(t, "findings", []string{setsImage}, findings(plan.Findings))
	})
}

// A batch of instances that are all out of service already takes nothing out of service.
func TestS7_NothingServesAnyMore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 1)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(1, everything))
		b.runTo(id, ru.StatusFailurePaused)
		plan, err := b.r.PlanRollback(b.ctx(), id, ru.RollbackSpec{Scope: ru.ScopeAttempted, MinInService: 1})
		b.ok(err)
		diff(t, "findings", []string(nil), findings(plan.Findings))
	})
}

func TestS7_FindingAsText(t *testing.T) {
	for n, want := range map[int]string{
		0: "warning desired_capacity: it is 4", 3: "warning desired_capacity: it is 4 (i-0001, i-0002, i-0003)",
		5: "warning desired_capacity: it is 4 (i-0001, i-0002, i-0003 and 2 more)",
	} {
		diff(t, "text", want, ru.Finding{Severity: ru.SeverityWarning, Code: ru.FindDesiredCapacity, Text: "it is 4", InstanceIDs: idRange(1, n)}.String())
	}
}

// The plan says why an instance is left alone: what an earlier task left in Standby is not what the user put there.
func TestS7_S26_WhyInStandby(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(6))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0002") })
		plan, err := b.r.Plan(b.ctx(), scriptSpec(2))
		b.ok(err)
		got := map[string]string{}
		for _, e := range plan.Excluded {
			got[e.InstanceID] = e.Reason
		}
		diff(t, "reasons", map[string]string{"i-0001": "is Standby, left over from task " + id, "i-0002": "is Standby"}, got)
	})
}

// The plan says the failure policy in words.
func TestS7_S22_BudgetsInWords(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		for want, p := range map[string]ru.FailurePolicy{
			"every failed instance waits for a decision":                                                          {},
			"tolerates 2 failed per batch, then waits for decisions":                                              {PerBatch: ru.Budget{Instances: 2}},
			"tolerates 10 % failed in total, then waits for decisions":                                            {Total: ru.Budget{Percent: 10}},
			"tolerates 10 %, at most 2 failed per batch and 1 in total, then waits for decisions":                 {PerBatch: ru.Budget{Percent: 10, Instances: 2}, Total: ru.Budget{Instances: 1}},
			"every failed instance waits for a decision; waits at most 1h0m0s, then: " + string(ru.OnLimitCancel): {Limit: time.Hour, OnLimit: ru.OnLimitCancel},
		} {
			plan, err := b.r.Plan(b.ctx(), scriptSpec(2, func(s *ru.Spec) { s.Failure = p }))
			b.ok(err)
			if !slices.Contains(plan.Policy, want) {
				t.Errorf("the policy is %q, want %q among it", plan.Policy, want)
			}
		}
	})
}
