package aliyun

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// send makes the side effects that are due. What they need is read before the first one.
func (j *imageJob) send(ctx context.Context) error {
	if len(j.todo[phaseReplace])+len(j.todo[phaseStart]) > 0 {
		if _, err := j.source(ctx); err != nil {
			return err
		}
	}
	states, err := j.membersAmong(ctx, j.todo[phaseReplace])
	if err != nil {
		return err
	}
	if todo := j.todo[phaseStop]; len(todo) > 0 {
		j.ordered(todo, j.power(ctx, powerOff, imageIDs(todo)), phaseStopping, waitShown, true)
	}
	if err := j.replaceAll(ctx, j.todo[phaseReplace], states); err != nil {
		return err
	}
	if todo := j.todo[phaseStart]; len(todo) > 0 {
		j.start(ctx, todo)
	}
	return nil
}

func imageIDs(todo []imageTarget) []string {
	ids := make([]string, len(todo))
	for n, t := range todo {
		ids[n] = t.InstanceID
	}
	return ids
}

// ordered notes what came of an order for several instances.
func (j *imageJob) ordered(todo []imageTarget, came map[string]error, phase string, after time.Duration, stopped bool) {
	for _, t := range todo {
		j.sent(t, t.saved, came[t.InstanceID], phase, after, stopped)
	}
}

// sent notes what came of a side effect: from now on wait for phase, or the error. After an error the state
// stays as it was saved, so that the same call can be sent again.
func (j *imageJob) sent(t imageTarget, now progressState, err error, phase string, after time.Duration, stopped bool) {
	if err != nil {
		j.answers[t.InstanceID] = provider.Progress{
			Err: err, State: t.saved.json(), Stopped: stopped || t.view.Power != provider.Running,
		}
		return
	}
	j.answers[t.InstanceID] = step{state: now, stopped: stopped}.waiting(phase, after).progress()
}

// membersAmong reads the lifecycle states of instances whose disks are to be replaced.
func (j *imageJob) membersAmong(ctx context.Context, todo []imageTarget) (map[string]provider.Lifecycle, error) {
	if j.groupID == "" || len(todo) == 0 {
		return nil, nil
	}
	return j.lifecycles(ctx, j.groupID, imageIDs(todo))
}

// replaceAll replaces the system disks of those targets that are members of the group still.
func (j *imageJob) replaceAll(ctx context.Context, todo []imageTarget, states map[string]provider.Lifecycle) error {
	var mu sync.Mutex
	return each(ctx, len(todo), func(ctx context.Context, n int) error {
		t := todo[n]
		var err error
		if _, member := states[t.InstanceID]; !member && j.groupID != "" {
			err = notMember(t.InstanceID, j.groupID)
		} else if end, ok := ctx.Deadline(); n > 0 && (ctx.Err() != nil || ok && time.Until(end) < leastToReplace) {
			mu.Lock()
			defer mu.Unlock()
			j.answers.unsent(t.Target, t.saved, fmt.Errorf("the time of the call is over: %w", provider.ErrTransient))
			return nil
		}
		now := t.saved
		if err == nil {
			if now, err = j.replace(ctx, t); errors.Is(err, provider.ErrThrottled) && !t.Resent {
				return nil // left out: not begun
			}
		}
		mu.Lock()
		defer mu.Unlock()
		j.sent(t, now, err, phaseReplacing, waitReplace, true)
		return nil // errors are kept apart
	})
}

// replace replaces the system disk of one instance. The new one gets the size, encryption and key of the
// old one: without them the service makes it 40 GiB and not encrypted.
func (j *imageJob) replace(ctx context.Context, t imageTarget) (progressState, error) {
	req := ecs.CreateReplaceSystemDiskRequest()
	req.InstanceId, req.ImageId = t.InstanceID, j.imageID
	req.ClientToken = tokenOf(t.CallID, t.InstanceID, t.saved.OldDisk)
	if size := max(t.saved.SizeGiB, t.view.disk.SizeGiB); size > 0 {
		req.SystemDiskSize = requests.NewInteger(size)
	}
	if t.saved.Encrypted { // whether the new disk would be encrypted without it is unverified
		req.Encrypted, req.KMSKeyId = requests.NewBoolean(true), t.saved.KMSKeyID
	}
	if !strings.EqualFold(t.view.OS, "windows") { // key pairs are for Linux
		req.KeyPairName = firstOf(j.feed.keyPair, keyPairBefore(t.Before), t.view.KeyPair)
	}
	if req.KeyPairName == "" && j.feed.passwordInherit {
		req.PasswordInherit = requests.NewBoolean(true)
	}
	resp := ecs.CreateReplaceSystemDiskResponse()
	err := j.call(ctx, req, resp)
	if err != nil {
		err = ofInstance(t.InstanceID, err)
	}
	now := t.saved
	now.NewDisk, now.UserData = resp.DiskId, false
	return now, err
}

func keyPairBefore(b *provider.Before) string {
	if b == nil {
		return ""
	}
	return b.KeyPair
}

// start sets the user data where it differs, and starts what is Stopped. User data is set before the first boot from the
// new disk: scripts in it run at that boot (unverified for a replaced disk).
func (j *imageJob) start(ctx context.Context, todo []imageTarget) {
	errs := make([]error, len(todo))
	states := make([]progressState, len(todo))
	_ = each(ctx, len(todo), func(ctx context.Context, i int) error { // errors are kept apart
		states[i] = todo[i].saved
		if replaced := todo[i].view.disk.ID != todo[i].saved.OldDisk; replaced && !states[i].UserData {
			errs[i] = j.setUserData(ctx, todo[i])
			states[i].UserData = true
		}
		return nil
	})
	var stopped []imageTarget
	for n, t := range todo {
		now := states[n]
		switch {
		case errs[n] != nil:
			j.sent(t, now, ofInstance(t.InstanceID, errs[n]), "", 0, t.view.Power == provider.Stopped)
		case t.view.Power == provider.Stopped:
			stopped = append(stopped, t)
		default:
			j.sent(t, now, nil, phaseStarting, waitShown, false)
		}
	}
	came := j.power(ctx, powerOn, imageIDs(stopped))
	for n, t := range todo {
		if err, ordered := came[t.InstanceID]; ordered {
			j.sent(t, states[n], err, phaseStarting, waitShown, false)
		}
	}
}

// setUserData gives an instance the user data that it is to have.
func (j *imageJob) setUserData(ctx context.Context, t imageTarget) error {
	want, err := j.userDataOf(ctx, t.Before) // the source was read before
	if err != nil || want == "" {
		return err
	}
	has, err := j.userData(ctx, t.InstanceID)
	if err != nil || sameData(has, want) {
		return err
	}
	req := ecs.CreateModifyInstanceAttributeRequest()
	req.InstanceId = t.InstanceID
	req.FormParams["UserData"] = want // in the body: it may be long, and hold secrets
	return j.call(ctx, req, ecs.CreateModifyInstanceAttributeResponse(), want)
}

// userDataOf is the user data that an instance is to have: that of the group's configuration source, else its own. Empty if there is none.
func (j *imageJob) userDataOf(ctx context.Context, b *provider.Before) (string, error) {
	feed, err := j.source(ctx)
	if err != nil || feed.userData != "" || b == nil {
		return feed.userData, err
	}
	return b.UserData, nil
}

// userData reads the user data that an instance has.
func (p *Provider) userData(ctx context.Context, id string) (string, error) {
	req := ecs.CreateDescribeUserDataRequest()
	req.InstanceId = id
	resp := ecs.CreateDescribeUserDataResponse()
	err := p.call(ctx, req, resp)
	return resp.UserData, err
}

// sameData compares user data, whatever the form of its base64.
func sameData(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := base64.StdEncoding.DecodeString(a)
	y, errY := base64.StdEncoding.DecodeString(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// firstUserData completes the record of instances before the first change: the user data is in it if the
// configuration source has none.
func (j *imageJob) firstUserData(ctx context.Context, all []imageTarget) error {
	var first []string
	for _, t := range all {
		if b := j.answers[t.InstanceID].Before; b != nil && (t.Before == nil || t.Before.UserData == "") {
			first = append(first, t.InstanceID)
		}
	}
	if len(first) == 0 {
		return nil
	}
	feed, err := j.source(ctx)
	if err != nil || feed.userData != "" {
		return err
	}
	data := make([]string, len(first))
	err = each(ctx, len(first), func(ctx context.Context, i int) (err error) {
		data[i], err = j.userData(ctx, first[i])
		return ignoreNotFound(err) // released meanwhile: the next look says so
	})
	if err != nil {
		return err
	}
	for n, id := range first {
		j.answers[id].Before.UserData = data[n]
	}
	return nil
}
