package rollingupgrade_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func TestS3_ImageUpdateStopsAndStarts(t *testing.T) {
	// Public, custom, shared and marketplace images differ in their IDs only, once they can be used.
	for _, id := range []string{"aliyun_3_x64_20G_alibase_20240819.vhd", "m-bp1custom", "m-2zeshared", "m-bp1market"} {
		bubbled(t, id, func(t *testing.T) {
			b := demoBed(t, 2)
			b.cloud.AddImages(provider.Image{ID: id})
			before := b.instance("i-0001")
			b.runTo(b.create(imageSpec(2, image(id))), ru.StatusSucceeded)
			after := b.instance("i-0001")
			diff(t, "effects", wholeUpgrade, b.effects("i-0001"))
			diff(t, "image", id, after.ImageID)
			if after.Disk.ID == before.Disk.ID || !after.Started.After(before.Started) {
				t.Errorf("disk %s, started %s; before: disk %s, started %s", after.Disk.ID, after.Started, before.Disk.ID, before.Started)
			}
		})
	}
}

func TestS3_ScriptsOfEachType(t *testing.T) {
	for _, test := range []struct {
		kind provider.ScriptType
		os   string
	}{{provider.Shell, "linux"}, {provider.Bat, "windows"}, {provider.PowerShell, "windows"}} {
		bubbled(t, string(test.kind), func(t *testing.T) {
			b := demoBed(t, 0)
			b.cloud.AddInstances(fake.DemoGroup, 2, fake.InstanceSpec{OS: test.os})
			spec := scriptSpec(2, scriptType(test.kind))
			want := spec.Update.Script
			want.Content, want.Timeout, want.WorkingDir, want.User = "install {{version}} --from {{mirror}}", 20*time.Minute, "/opt/app", "deploy"
			want.Parameters = map[string]string{"version": "1.2.3", "mirror": "oss"}
			before := b.instance("i-0001")
			b.runTo(b.create(spec), ru.StatusSucceeded)

			diff(t, "effects", []string{"EnterStandby", "RunCommand", "ExitStandby"}, b.effects("i-0001"))
			after := b.instance("i-0001")
			diff(t, "disk, image and start", []any{before.Disk, before.ImageID, before.Started}, []any{after.Disk, after.ImageID, after.Started})
			for _, i := range idRange(1, 2) {
				diff(t, "script run on "+i, *want, b.ran(i).Script)
			}
		})
	}
}

// ran is the invocation of the last script that ran on an instance.
func (b *bed) ran(instanceID string) (last fake.InvocationView) {
	b.t.Helper()
	for _, e := range b.cloud.Effects() {
		if e.Action == "RunCommand" && e.InstanceID == instanceID {
			v, err := b.cloud.API().DescribeInvocationResults(b.ctx(), e.Detail, []string{instanceID})
			b.ok(err)
			last = v
		}
	}
	return last
}

func TestS3_ScriptTimeout(t *testing.T) {
	scripted := func(t *testing.T, takes time.Duration) *bed {
		b := demoBed(t, 2)
		b.cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: takes, Output: "so far"}}})
		return b
	}
	timeout := func(d time.Duration) func(*ru.Spec) {
		return func(s *ru.Spec) { s.Update.Script.Timeout = d }
	}
	bubbled(t, "longer than the default", func(t *testing.T) {
		b := scripted(t, 61*time.Second)
		row := rowOf(b.runTo(b.create(scriptSpec(2)), ru.StatusFailurePaused), "i-0001")
		if row.ExitCode != nil || row.Error == nil || !strings.Contains(row.Error.Text, "Timeout") {
			t.Errorf("row: %+v", row)
		}
	})
	bubbled(t, "longer than its own", func(t *testing.T) {
		b := scripted(t, 31*time.Minute)
		began := time.Now()
		b.runTo(b.create(scriptSpec(2, timeout(30*time.Minute))), ru.StatusFailurePaused)
		if took := time.Since(began); took < 30*time.Minute || took > 32*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
	bubbled(t, "in time", func(t *testing.T) {
		b := scripted(t, 29*time.Minute)
		b.runTo(b.create(scriptSpec(2, timeout(30*time.Minute))), ru.StatusSucceeded)
	})
	for name, test := range map[string]struct {
		change func(*ru.Spec)
		field  string
	}{
		"too short":           {timeout(9 * time.Second), "Spec.Update.Script.Timeout"},
		"negative":            {timeout(-time.Minute), "Spec.Update.Script.Timeout"},
		"too long":            {timeout(24*time.Hour + 1), "Spec.Update.Script.Timeout"},
		"unknown type":        {func(s *ru.Spec) { s.Update.Script.Type = "RunPython" }, "Spec.Update.Script.Type"},
		"directory too long":  {func(s *ru.Spec) { s.Update.Script.WorkingDir = strings.Repeat("d", 201) }, "Spec.Update.Script.WorkingDir"},
		"user too long":       {func(s *ru.Spec) { s.Update.Script.User = strings.Repeat("u", 256) }, "Spec.Update.Script.User"},
		"nameless parameter":  {func(s *ru.Spec) { s.Update.Script.Parameters = map[string]string{"": "x"} }, "Spec.Update.Script.Parameters"},
		"no script":           {func(s *ru.Spec) { s.Update.Script = nil }, "Spec.Update.Script"},
		"unknown kind at all": {func(s *ru.Spec) { s.Update.Kind = "magic"; s.Update.Script = nil; s.Rollback = ru.Update{} }, "Spec.Update.Kind"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 2)
			_, err := b.r.Create(b.ctx(), scriptSpec(2, test.change))
			wantField(t, err, test.field)
			b.untouched()
		})
	}
}

func TestS17_ImageSuccess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		old := b.instance("i-0001").Disk.ID
		row := rowOf(b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded), "i-0001")
		i := b.instance("i-0001")
		if i.Disk.ID == old || i.ImageID != fake.DemoNewImage || i.Power != provider.Running || i.DiskReplacing {
			t.Errorf("instance: %+v", i)
		}
		if row.Outcome != provider.Updated || row.Error != nil || row.Before.Disk.ID != old || row.Before.ImageID != fake.DemoOldImage {
			t.Errorf("row: %+v", row)
		}
	})
}

// An image update that misses one of the marks of success fails, and the instance stays in Standby.
func TestS17_ImageFailure(t *testing.T) {
	starting := func(b *bed) bool { return b.instance("i-0001").Power == provider.Starting }
	for name, test := range map[string]struct {
		behavior fake.Behavior
		when     func(b *bed) bool
		then     func(w *fake.World)
		says     string
	}{
		"the replacement comes to nothing": {behavior: fake.Behavior{FailReplaces: 1}, says: "came to nothing"},
		"it does not start":                {behavior: fake.Behavior{FailStarts: 1}, says: "was started and is Stopped"},
		"it runs another image":            {when: starting, then: func(w *fake.World) { w.SetImage("img-other", "i-0001") }, says: "img-other"},
		"the image is deleted before":      {when: func(b *bed) bool { return b.members()["i-0001"] == provider.Standby }, then: func(w *fake.World) { w.RemoveImage(fake.DemoNewImage) }, says: "img-v2"},
		"it never starts":                  {behavior: fake.Behavior{StartTakes: fake.Forever}, says: "deadline"},
		"it never stops":                   {behavior: fake.Behavior{StopTakes: fake.Forever}, says: "deadline"},
		"the replacement never ends":       {behavior: fake.Behavior{ReplaceTakes: fake.Forever}, says: "deadline"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 2)
			b.cloud.AddImages(provider.Image{ID: "img-other"})
			b.cloud.SetBehavior("i-0001", test.behavior)
			id := b.create(imageSpec(2))
			wait := b.start(id)
			if test.when != nil {
				b.until(id, "the right moment", func(*ru.Task) bool { return test.when(b) })
				b.cloud.Now(test.then)
			}
			task := wait()
			b.wantStatus(task, ru.StatusFailurePaused)
			row := rowOf(task, "i-0001")
			if row.Error == nil || row.Error.Step != ru.Updating || !strings.Contains(row.Error.Text, test.says) || row.Outcome == provider.Updated {
				t.Errorf("row: %+v, error %+v", row, row.Error)
			}
			diff(t, "in Standby", []string{"i-0001"}, b.inState(provider.Standby))
		})
	}
}

func TestS17_DiskIsLikeTheOldOne(t *testing.T) {
	for name, disk := range map[string]provider.Disk{
		"small":             {SizeGiB: 20},
		"large":             {SizeGiB: 500},
		"encrypted":         {SizeGiB: 60, Encrypted: true},
		"encrypted by key":  {SizeGiB: 60, Encrypted: true, KMSKeyID: "key-1"},
		"just large enough": {SizeGiB: 20, Encrypted: true, KMSKeyID: "key-2"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 1)
			addInstance(fake.InstanceSpec{Disk: disk})(b)
			old := b.instance("i-x").Disk
			task := b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
			got := b.instance("i-x").Disk
			if got.ID == old.ID {
				t.Errorf("the disk is still %s", old.ID)
			}
			diff(t, "disk before, in the record", old, *rowOf(task, "i-x").Before.Disk)
			got.ID, old.ID = "", ""
			diff(t, "disk", old, got)
		})
	}
}

func TestS17_KeyPairAndUserData(t *testing.T) {
	data := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, test := range []struct {
		name             string
		source, instance string // key pair, and user data likewise
		wantKey          string
		launchTemplate   bool
	}{
		{name: "of the configuration", source: "theirs", instance: "own", wantKey: "theirs"},
		{name: "of the launch template", source: "theirs", instance: "own", wantKey: "theirs", launchTemplate: true},
		{name: "of the configuration, the instance has none", source: "theirs", wantKey: "theirs"},
		{name: "of the instance", instance: "own", wantKey: "own"},
		{name: "nobody has one"},
	} {
		bubbled(t, test.name, func(t *testing.T) {
			group := fake.GroupSpec{KeyPair: test.source}
			if test.source != "" {
				group.UserData = data(test.source)
			}
			if test.launchTemplate {
				group.LaunchTemplateID = "lt-1"
			}
			own := fake.InstanceSpec{KeyPair: test.instance}
			if test.instance != "" {
				own.UserData = data(test.instance)
			}
			b := keysBed(t, group, own)
			b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
			want := ""
			if test.wantKey != "" {
				want = data(test.wantKey)
			}
			for _, i := range b.cloud.Snapshot(fake.DemoGroup) {
				diff(t, "key pair and user data of "+i.ID, []string{test.wantKey, want}, []string{i.KeyPair, i.UserData})
			}
		})
	}
}

// keysBed returns a bed on a group with two instances.
func keysBed(t *testing.T, group fake.GroupSpec, own fake.InstanceSpec) *bed {
	t.Helper()
	b := groupBed(t, group)
	b.cloud.AddInstances(fake.DemoGroup, 2, own)
	return b
}

func TestS17_ScriptSuccessIsExitCodeZero(t *testing.T) {
	for _, test := range []struct {
		name   string
		result fake.ScriptResult
		ok     bool
		exit   []int // none if it did not exit
		says   string
	}{
		{"zero", fake.ScriptResult{Output: "done"}, true, []int{0}, ""},
		{"one", fake.ScriptResult{ExitCode: 1, Output: "no space"}, false, []int{1}, "1"},
		{"large", fake.ScriptResult{ExitCode: 255}, false, []int{255}, "255"},
		{"negative", fake.ScriptResult{ExitCode: -1}, false, []int{-1}, "-1"},
		{"did not run", fake.ScriptResult{Code: "ExecutionException"}, false, nil, "ExecutionException"},
		{"aborted", fake.ScriptResult{Code: "Aborted"}, false, nil, "Aborted"},
	} {
		bubbled(t, test.name, func(t *testing.T) {
			b := demoBed(t, 2)
			b.cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{test.result}})
			id := b.create(scriptSpec(2))
			task := b.run(id)
			row := rowOf(task, "i-0001")
			var exit []int
			if row.ExitCode != nil {
				exit = append(exit, *row.ExitCode)
			}
			diff(t, "exit code", test.exit, exit)
			if test.ok {
				b.wantStatus(task, ru.StatusSucceeded)
				diff(t, "outcome", provider.Updated, row.Outcome)
			} else {
				b.wantStatus(task, ru.StatusFailurePaused)
				if row.Status != ru.InstanceFailed || !strings.Contains(row.Error.Text, test.says) || row.Error.Kind != provider.ErrFailed.Error() {
					t.Errorf("row: %+v, error %+v", row, row.Error)
				}
				diff(t, "in Standby", []string{"i-0001"}, b.inState(provider.Standby))
			}
			out, err := b.r.Output(b.ctx(), id, "i-0001")
			b.ok(err)
			diff(t, "output", test.result.Output, out.Text)
			if out.Exited != (test.exit != nil) || out.ExitCode != test.result.ExitCode {
				t.Errorf("output: %+v", out)
			}
			if test.result.Code != "" && out.Code != test.result.Code && !strings.Contains(out.Message, test.result.Code) {
				t.Errorf("the cloud's words are not kept: %+v", out)
			}
		})
	}
}

func TestS17_OutputOfEachInstance(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const limit = 24 << 10
		b := demoBed(t, 4)
		long := strings.Repeat("0123456789abcdef", 2000) // 32,000 bytes
		b.cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{Output: "one"}}})
		b.cloud.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{Output: long}}})
		b.cloud.SetBehavior("i-0003", fake.Behavior{Scripts: []fake.ScriptResult{{Output: long[:limit]}}})
		b.cloud.SetBehavior("i-0004", fake.Behavior{Scripts: []fake.ScriptResult{{ExitCode: 3, Output: "first try"}, {Output: "second try"}}})
		id := b.create(scriptSpec(2))
		task := b.runTo(id, ru.StatusFailurePaused)
		type kept struct {
			text    string
			dropped int
			exit    int
		}
		output := func(i string) kept {
			o, err := b.r.Output(b.ctx(), id, i)
			b.ok(err)
			return kept{o.Text, o.Dropped, o.ExitCode}
		}
		for i, want := range map[string]kept{
			"i-0001": {"one", 0, 0}, "i-0002": {long[:limit], len(long) - limit, 0}, "i-0003": {long[:limit], 0, 0}, "i-0004": {"first try", 0, 3},
		} {
			if got := output(i); got != want {
				t.Errorf("output of %s: %d bytes, %d dropped, exit code %d", i, len(got.text), got.dropped, got.exit)
			}
		}
		diff(t, "exit code", 3, *rowOf(task, "i-0004").ExitCode)
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0004"}))
		task = b.runTo(id, ru.StatusSucceeded)
		if got := output("i-0004"); got != (kept{"second try", 0, 0}) || *rowOf(task, "i-0004").ExitCode != 0 {
			t.Errorf("output after the retry: %+v", got)
		}
		if slices.Contains(statusesOf(task), "failed") {
			t.Errorf("statuses: %v", statuses(task))
		}
	})
	bubbled(t, "none", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		_, err := b.r.Output(b.ctx(), id, "i-0001")
		wantError(t, err, ru.ErrNoOutput)
	})
}

func statusesOf(task *ru.Task) (all []string) {
	for _, s := range statuses(task) {
		all = append(all, s)
	}
	return all
}
