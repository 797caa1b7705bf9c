package aliyun_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// What feeds the group is read again for an attempt that began after it was read: somebody may have mended it.
func TestS17_SourceIsReadForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mended := false
		change := transport(func(q *request) bool {
			if q.action == "DescribeScalingConfigurations" && mended {
				q.replace(`"KeyPairName":""`, `"KeyPairName":"new-key"`)
			}
			return false
		})
		r, err := newRig(fake.Config{}, openapi.Config{}, 1, func(c *aliyun.Config) { c.Transport = change(c.Transport) })
		if err != nil {
			t.Fatal(err)
		}
		r.cloud.AddGroup(fake.GroupSpec{ID: "asg-x"})
		r.cloud.AddInstances("asg-x", 1, fake.InstanceSpec{ID: "i-x"})
		r.cloud.AddInstances("asg-x", 1, fake.InstanceSpec{ID: "i-y"})
		r.cloud.AddInstances("asg-x", 1, fake.InstanceSpec{ID: "i-z"})
		drive(t, r, "asg-x", imageUpdate(fake.DemoNewImage), "i-x")
		mended = true
		time.Sleep(time.Second)
		read := r.wire.Count("DescribeScalingConfigurations")
		driveSince(t, r, "asg-x", time.Now(), imageUpdate(fake.DemoNewImage), "i-y", "i-z")
		if n := r.wire.Count("DescribeScalingConfigurations") - read; n != 1 {
			t.Errorf("the configuration was read %d times for one attempt of two instances, want once", n)
		}
		var keys []string
		for _, q := range sentAs(r, "ReplaceSystemDisk") {
			keys = append(keys, q["KeyPairName"])
		}
		if want := []string{"", "new-key", "new-key"}; !slices.Equal(keys, want) {
			t.Errorf("key pairs are %q, want %q", keys, want)
		}
	})
}

// That an image cannot be used is not remembered.
func TestS17_ImageThatWasMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 2)
		ids := r.cloud.InstanceIDs(fake.DemoGroup)
		if e := drive(t, r, fake.DemoGroup, imageUpdate("img-late"), ids[0])[ids[0]]; !errors.Is(e.Err, provider.ErrInvalid) {
			t.Fatalf("without the image: %v", e.Err)
		}
		r.cloud.AddImages(provider.Image{ID: "img-late", Status: "Available", OS: "linux", SizeGiB: 20})
		if e := drive(t, r, fake.DemoGroup, imageUpdate("img-late"), ids[1])[ids[1]]; e.Err != nil || e.Outcome != provider.Updated {
			t.Errorf("with the image: %+v", e)
		}
	})
}

// A success without the list that was asked for, or with an error code, does not say that there is none.
func TestN2_HollowReadsAreUnknown(t *testing.T) {
	for _, body := range []string{
		`{"RequestId":"r"}`, `{"RequestId":"r","Code":"ServiceUnavailable","Message":"x"}`,
		`{"RequestId":"r","Code":"Oops","ScalingGroups":{},"ScalingInstances":{},"Instances":{},"Disks":{},"Invocations":{},"TotalCount":0}`,
	} {
		t.Run(body, func(t *testing.T) {
			p := answering(t, func(q *request) { q.answer(200, body) })
			open := func(what string, err error) {
				t.Helper()
				if !provider.Unknown(err) || errors.Is(err, provider.ErrNotFound) {
					t.Errorf("%s: error is %v, want one that leaves it open", what, err)
				}
			}
			_, err := p.Group(t.Context(), "asg-1")
			open("Group", err)
			_, err = p.Members(t.Context(), "asg-1")
			open("Members", err)
			_, err = p.Instances(t.Context(), "asg-1", []string{"i-1"})
			open("Instances", err)
			_, err = p.Update(t.Context(), "asg-1", imageUpdate("img-2"), []provider.Target{{InstanceID: "i-1", Attempt: 1}})
			open("Update", err)
		})
	}
}

// stoppedInstance is what the service shows of i-1 with one of those locks, and those disks by ID and by instance.
func stoppedInstance(lock, byID, byInstance string, sent *[]string) func(q *request) {
	return func(q *request) {
		switch q.action {
		case "DescribeInstances":
			q.answer(200, fmt.Sprintf(`{"RequestId":"r","Instances":{"Instance":[{"InstanceId":"i-1","Status":"Stopped","ImageId":"img-1","OSType":"linux","StoppedMode":"KeepCharging","OperationLocks":{"LockReason":[%s]}}]}}`, lock))
		case "DescribeDisks":
			disks := byInstance
			if q.params.Get("DiskIds") != "" {
				disks = byID
			}
			q.answer(200, `{"RequestId":"r","Disks":{"Disk":[`+disks+`]}}`)
		case "DescribeImages":
			q.answer(200, `{"RequestId":"r","Images":{"Image":[{"ImageId":"img-2","Status":"Available","OSType":"linux","Size":20}]}}`)
		case "DescribeScalingInstances":
			q.answer(200, `{"RequestId":"r","TotalCount":1,"ScalingInstances":{"ScalingInstance":[{"InstanceId":"i-1","ScalingGroupId":"asg-1","LifecycleState":"Standby"}]}}`)
		case "DescribeScalingGroups":
			q.answer(200, `{"RequestId":"r","ScalingGroups":{"ScalingGroup":[{"ScalingGroupId":"asg-1"}]}}`)
		default:
			*sent = append(*sent, q.action)
			q.answer(200, `{"RequestId":"r","DiskId":"d-3"}`)
		}
	}
}

const theOldDisk = `{"DiskId":"d-1","InstanceId":"i-1","Type":"system","Status":"In_use","Size":40,"ImageId":"img-1"}`

// What the cloud shows in the middle of a replacement is not taken for its failure, nor for somebody else's.
func TestN2_ReplacementUnderWay(t *testing.T) {
	const looking, resent = `{"phase":"replacing","old_disk":"d-1","new_disk":"d-2","size_gib":40}`, `{"phase":"replace","old_disk":"d-1","size_gib":40}`
	for _, tt := range []struct {
		name             string
		lock             string
		byID, byInstance string
		target           provider.Target
		image            string // that DescribeImages knows
		looks            int
	}{
		{
			name: "the new disk is made", byID: `{"DiskId":"d-2","InstanceId":"","Type":"system","Status":"Creating","Size":40,"ImageId":"img-2"}`, byInstance: theOldDisk,
			target: provider.Target{InstanceID: "i-1", Attempt: 1, State: []byte(looking)}, looks: 100,
		},
		{
			name: "locked, and nothing else shows", lock: `{"LockReason":"replacing"}`, byInstance: theOldDisk,
			target: provider.Target{InstanceID: "i-1", Attempt: 1, State: []byte(looking)}, looks: 100,
		},
		{
			name: "sent again, and locked by what was sent before", lock: `{"LockReason":"replacing"}`, byID: theOldDisk, byInstance: theOldDisk,
			target: provider.Target{InstanceID: "i-1", Attempt: 1, CallID: "c", Resent: true, State: []byte(resent)}, looks: 1,
		},
		{
			name: "the new disk is in use, and shows no image, as the instance shows the old one", byID: `{"DiskId":"d-2","InstanceId":"i-1","Type":"system","Status":"In_use","Size":40}`,
			target: provider.Target{InstanceID: "i-1", Attempt: 1, State: []byte(looking)}, looks: 3,
		},
		{
			name: "accepted a minute ago, and nothing shows", byInstance: theOldDisk,
			target: provider.Target{InstanceID: "i-1", Attempt: 1, State: []byte(looking)}, looks: 10,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent []string
			p := answering(t, stoppedInstance(tt.lock, tt.byID, tt.byInstance, &sent))
			for n := range tt.looks {
				got, err := p.Update(t.Context(), "asg-1", imageUpdate("img-2"), []provider.Target{tt.target})
				if err != nil || len(got) != 1 {
					t.Fatalf("%v, %v", got, err)
				}
				if g := got[0]; g.Err != nil || g.Act || g.Done || g.Phase != "replacing" || !g.Stopped {
					t.Fatalf("look %d: %+v (%s), want that it goes on", n+1, g, g.State)
				}
				tt.target.State, tt.target.CallID, tt.target.Resent = got[0].State, "", false
			}
			if len(sent) > 0 {
				t.Errorf("sent: %v", sent)
			}
		})
	}
}

// A script that is sent again and refused may have been begun by the first sending, for the refused instance and for the others.
func TestN2_ScriptRefusedWhenSentAgain(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("again ", again), func(t *testing.T) {
			p := answering(t, func(q *request) {
				switch q.action {
				case "DescribeInvocations":
					q.answer(200, `{"RequestId":"r","Invocations":{"Invocation":[]}}`)
				case "RunCommand":
					q.answer(403, `{"RequestId":"r","Code":"InstanceNotRunning","Message":"m"}`)
				case "DescribeInstances":
					q.answer(200, `{"RequestId":"r","Instances":{"Instance":[{"InstanceId":"i-1","Status":"Stopped","OSType":"linux"},{"InstanceId":"i-2","Status":"Running","OSType":"linux"}]}}`)
				case "DescribeCloudAssistantStatus":
					q.answer(200, `{"RequestId":"r","InstanceCloudAssistantStatusSet":{"InstanceCloudAssistantStatus":[{"InstanceId":"i-2","CloudAssistantStatus":"true"}]}}`)
				}
			})
			var targets []provider.Target
			for _, id := range []string{"i-1", "i-2"} {
				targets = append(targets, provider.Target{InstanceID: id, CallID: "c", Attempt: 1, Resent: again, State: []byte(`{"phase":"run"}`)})
			}
			got, err := p.Update(t.Context(), "asg-1", scriptUpdate("x"), targets)
			if err != nil || len(got) != 2 {
				t.Fatalf("%v, %v", got, err)
			}
			want := []error{provider.ErrInvalidState, provider.ErrRefused}
			for n, g := range got {
				if again && (!errors.Is(g.Err, provider.ErrOutcomeUnknown) || errors.Is(g.Err, want[n])) || !again && !errors.Is(g.Err, want[n]) {
					t.Errorf("%s: %v", g.InstanceID, g.Err)
				}
			}
		})
	}
}

// A call that stops some and replaces the disks of others reads what it needs before it sends anything.
func TestN2_NotBegunMeansNothingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := false
		spoil := transport(func(q *request) bool {
			return bad && q.action == "DescribeScalingInstances" && q.answer(503, `{"RequestId":"r","Code":"ServiceUnavailable","Message":"x"}`)
		})
		r, err := newRig(fake.Config{}, openapi.Config{}, 2, func(c *aliyun.Config) {
			c.Transport, c.ReplaceTargets = spoil(c.Transport), 100
		})
		if err != nil {
			t.Fatal(err)
		}
		ids := r.cloud.InstanceIDs(fake.DemoGroup)
		var targets []provider.Target
		for _, id := range ids {
			targets = append(targets, provider.Target{InstanceID: id, CallID: "enter", Attempt: 1})
		}
		if _, err := r.EnterStandby(context.Background(), fake.DemoGroup, targets); err != nil {
			t.Fatal(err)
		}
		r.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, ids[0]) })
		for n := range targets {
			targets[n].CallID = ""
		}
		got, err := r.Update(t.Context(), fake.DemoGroup, imageUpdate(fake.DemoNewImage), targets)
		if err != nil || !got[0].Act || !got[1].Act {
			t.Fatalf("%+v, %v", got, err)
		}
		for n := range targets {
			targets[n].CallID, targets[n].State = "act", got[n].State
		}
		bad = true
		if _, err = r.Update(t.Context(), fake.DemoGroup, imageUpdate(fake.DemoNewImage), targets); !errors.Is(err, provider.ErrNotBegun) {
			t.Errorf("error is %v, want %v", err, provider.ErrNotBegun)
		}
		if n := r.wire.Count("StopInstances"); n != 0 {
			t.Errorf("%d instances were told to stop", n)
		}
	})
}

// A member that has no instance yet is none, and does not make the list incomplete.
func TestS7_MemberWithoutAnInstance(t *testing.T) {
	p := answering(t, func(q *request) {
		switch q.action {
		case "DescribeScalingInstances":
			q.answer(200, `{"RequestId":"r","TotalCount":2,"ScalingInstances":{"ScalingInstance":[{"InstanceId":"","ScalingGroupId":"asg-1","LifecycleState":"Pending"},{"InstanceId":"i-1","ScalingGroupId":"asg-1","LifecycleState":"InService"}]}}`)
		case "DescribeInstances":
			q.answer(200, `{"RequestId":"r","Instances":{"Instance":[{"InstanceId":"i-1","Status":"Running","OSType":"linux"}]}}`)
		default:
			q.answer(200, `{"RequestId":"r","Disks":{"Disk":[]},"ScalingGroups":{"ScalingGroup":[{"ScalingGroupId":"asg-1"}]}}`)
		}
	})
	all, err := p.Members(t.Context(), "asg-1")
	if err != nil || len(all) != 1 || all[0].ID != "i-1" {
		t.Errorf("members are %v, %v", all, err)
	}
}

// Who is locked does not get the error that a neighbour has caused.
func TestS23_BlameForOthers(t *testing.T) {
	refused := false
	p := answering(t, func(q *request) {
		const locked = `{"InstanceId":"i-1","Status":"Stopped","OperationLocks":{"LockReason":[{"LockReason":"security"}]}}`
		switch q.action {
		case "StartInstances":
			refused = true
			q.answer(404, `{"RequestId":"r","Code":"InvalidInstanceId.NotFound","Message":"m"}`)
		case "DescribeInstances":
			there := locked + `,{"InstanceId":"i-2","Status":"Stopped"}`
			if refused {
				there = locked
			}
			q.answer(200, `{"RequestId":"r","Instances":{"Instance":[`+there+`]}}`)
		case "DescribeDisks":
			q.answer(200, `{"RequestId":"r","Disks":{"Disk":[`+theOldDisk+`,`+strings.ReplaceAll(theOldDisk, "-1", "-2")+`]}}`)
		}
	})
	got, err := p.Start(t.Context(), "asg-1", []provider.Target{{InstanceID: "i-1", CallID: "c", Attempt: 1}, {InstanceID: "i-2", CallID: "c", Attempt: 1}})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if e := got[0].Err; !errors.Is(e, provider.ErrInvalidState) || errors.Is(e, provider.ErrNotFound) || !strings.Contains(e.Error(), "locked") {
		t.Errorf("the locked one: %v", e)
	}
	if e := got[1].Err; !errors.Is(e, provider.ErrNotFound) {
		t.Errorf("the one that is gone: %v", e)
	}
}
