package fake

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// updateImage brings instances a step nearer to running an image.
func (c *Cloud) updateImage(ctx context.Context, groupID, imageID string, targets []provider.Target) ([]provider.Progress, error) {
	api := c.API()
	all, err := api.DescribeInstances(ctx, groupID, idsOf(targets))
	if err != nil {
		return nil, err
	}
	found := byID(all)
	source, err := c.sourceOf(ctx, "Update", groupID)
	if err != nil && !errors.Is(err, provider.ErrNotFound) { // without a group, the instance is the source
		return nil, err
	}
	images, err := api.DescribeImages(ctx, []string{imageID})
	if err != nil {
		return nil, err
	}
	var img *provider.Image
	if len(images) > 0 {
		img = &images[0]
	}

	j := imageJob{Cloud: c, groupID: groupID, imageID: imageID, image: img, source: source, answers: make(map[string]provider.Progress)}
	for _, t := range targets {
		v, exists := found[t.InstanceID]
		if !exists {
			j.answers[t.InstanceID] = provider.Progress{Err: fmt.Errorf("instance %s: %w", t.InstanceID, provider.ErrNotFound)}
			continue
		}
		saved, err := readState(t)
		if err != nil {
			j.answers[t.InstanceID] = provider.Progress{Err: err}
			continue
		}
		j.consider(t, v, saved)
	}
	if err := j.send(ctx); err != nil {
		return nil, err
	}
	return inOrder(targets, j.answers), nil
}

// imageJob is one call of Update for an image.
type imageJob struct {
	*Cloud
	groupID string
	imageID string
	image   *provider.Image
	source  ConfigurationView
	answers map[string]provider.Progress
	todo    map[string][]imageTarget // side effects to be made, by phase
	over    bool                     // more targets than MaxTargets
}

type imageTarget struct {
	provider.Target
	view  InstanceView
	saved progressState
}

// consider decides about one target: an answer, or a side effect to be made.
func (j *imageJob) consider(t provider.Target, v InstanceView, saved progressState) {
	next := j.next(t, v, saved)
	if !due(t, saved, next.act) || saved.OldDisk == "" {
		j.answers[v.ID] = j.progress(v.ID, next)
		return
	}
	if t.Stale { // the cloud shows that it has not happened
		j.answers[v.ID] = provider.Progress{
			Err: fmt.Errorf("%s: %s: %w", next.act, v.ID, provider.ErrNotBegun), State: saved.json(), Stopped: next.stopped,
		}
		return
	}
	if j.todo == nil {
		j.todo = make(map[string][]imageTarget)
	}
	if next.act == phaseReplace && j.groupID != "" && v.Lifecycle == "" { // it has left the group
		j.answers[v.ID] = provider.Progress{
			Err: fmt.Errorf("instance %s is no member of the group: %w", v.ID, provider.ErrNotFound), State: saved.json(), Stopped: true,
		}
		return
	}
	if next.act == phaseReplace && len(j.todo[phaseReplace]) >= j.cfg.ReplaceTargets {
		if !j.over {
			j.over = true
			j.note("Update", t.CallID, "more than the %d targets that MaxTargets allowed", j.cfg.ReplaceTargets)
		}
		return // not begun
	}
	j.todo[next.act] = append(j.todo[next.act], imageTarget{t, v, saved})
}

// next says what comes next for an instance: it follows from what the cloud shows and from the old disk that the state names.
func (j *imageJob) next(t provider.Target, v InstanceView, saved progressState) step {
	s := step{state: saved}
	if saved.OldDisk == "" {
		s.state.OldDisk, s.state.SizeGiB = v.Disk.ID, v.Disk.SizeGiB
		s.state.Encrypted, s.state.KMSKeyID = v.Disk.Encrypted, v.Disk.KMSKeyID
		s.before = j.before(v)
	}
	s.state.Undo = saved.Undo || t.Stop
	replaced := v.Disk.ID != s.state.OldDisk
	s.stopped = v.Power == provider.Stopping || v.Power == provider.Stopped
	act := func(phase string) step {
		s.act, s.state.Phase = phase, phase
		if phase == phaseReplace {
			s.limit = j.cfg.ReplaceTargets
		}
		return s
	}
	switch {
	case v.DiskReplacing:
		s.wait, s.after, s.state.Phase, s.stopped = "replacing", waitReplace, "replacing", true
		if saved.OldDisk == "" { // somebody else's: the disk is not yet the one to be replaced
			s.state, s.before = progressState{}, nil
		}
		return s
	case v.Power == provider.Stopping:
		s.wait, s.after, s.state.Phase = "stopping", waitStop, "stopping"
		return s
	case v.Power == provider.Starting || v.Power == provider.PowerPending:
		s.wait, s.after, s.state.Phase = "starting", waitStart, "starting"
		return s
	}
	if replaced {
		return j.afterReplace(t, v, saved, s, act)
	}
	running := v.Power == provider.Running
	switch {
	case s.state.Undo && running:
		s.done = provider.NotUpdated
		return s
	case s.state.Undo && saved.Phase == "starting":
		return failed(s, phaseStart, "%s was started and is %s", v.ID, v.Power)
	case s.state.Undo:
		return act(phaseStart)
	case saved.Phase == "replacing":
		return failed(s, phaseReplace, "the replacement of the system disk of %s came to nothing", v.ID)
	}
	if err := j.unfit(v); err != nil {
		s.err, s.state = err, progressState{}
		return s
	}
	if running {
		return act(phaseStop)
	}
	return act(phaseReplace)
}

// afterReplace says what comes next for an instance that has its new disk.
func (j *imageJob) afterReplace(t provider.Target, v InstanceView, saved progressState, s step, act func(string) step) step {
	s.state.Undo = false
	switch {
	case v.ImageID != j.imageID: // somebody else's replacement; a retry starts afresh
		return failed(step{stopped: s.stopped}, "", "%s runs image %s", v.ID, v.ImageID)
	case v.Power == provider.Running && v.UserData == j.userData(t.Before, v):
		s.done, s.fit = provider.Updated, true
		return s
	case v.Power == provider.Running:
		return act(phaseStart)
	case saved.Phase == "starting":
		return failed(s, phaseStart, "%s was started and is %s", v.ID, v.Power)
	}
	return act(phaseStart)
}

// failed ends the update; a retry starts from the side effect phase.
func failed(s step, phase, format string, args ...any) step {
	s.err = fmt.Errorf(format+": %w", append(args, provider.ErrFailed)...)
	s.state.Phase = phase
	return s
}

// unfit says why the instance cannot take the image, before anything is done to it.
func (j *imageJob) unfit(v InstanceView) error {
	if err := unusable(j.image, j.imageID, "Update"); err != nil {
		return err
	}
	switch {
	case len(v.Locks) > 0:
		return fmt.Errorf("instance %s is locked: %w", v.ID, provider.ErrInvalidState)
	case v.Expired:
		return fmt.Errorf("instance %s has expired: %w", v.ID, provider.ErrInvalidState)
	case j.image.SizeGiB > v.Disk.SizeGiB:
		return fmt.Errorf("image %s needs %d GiB, the disk of %s has %d: %w", j.imageID, j.image.SizeGiB, v.ID, v.Disk.SizeGiB, provider.ErrInvalid)
	}
	return nil
}

// before records the instance as it is.
func (j *imageJob) before(v InstanceView) *provider.Before {
	disk := v.Disk
	b := &provider.Before{ImageID: v.ImageID, Lifecycle: v.Lifecycle, Power: v.Power, KeyPair: v.KeyPair, Disk: &disk}
	if j.source.UserData == "" {
		b.UserData = v.UserData
	}
	return b
}

// keyPair and userData come from the group's configuration source, else from the instance as it was.
func (j *imageJob) keyPair(b *provider.Before, v InstanceView) string {
	switch {
	case j.source.KeyPair != "":
		return j.source.KeyPair
	case b != nil && b.KeyPair != "":
		return b.KeyPair
	}
	return v.KeyPair
}

func (j *imageJob) userData(b *provider.Before, v InstanceView) string {
	switch {
	case j.source.UserData != "":
		return j.source.UserData
	case b != nil && b.UserData != "":
		return b.UserData
	}
	return v.UserData
}

// send makes the side effects that are due.
func (j *imageJob) send(ctx context.Context) error {
	api := j.API()
	if todo := j.todo[phaseStop]; len(todo) > 0 {
		j.sent(todo, api.StopInstances(ctx, imageIDs(todo)), "stopping", waitStop, true)
	}
	for n, t := range j.todo[phaseReplace] {
		if n > 0 && ctx.Err() != nil {
			break // not begun
		}
		_, err := api.ReplaceSystemDisk(ctx, ReplaceSystemDiskRequest{
			InstanceID: t.InstanceID, ImageID: j.imageID, SizeGiB: max(t.saved.SizeGiB, t.view.Disk.SizeGiB), Encrypted: t.saved.Encrypted,
			KMSKeyID: t.saved.KMSKeyID, KeyPair: j.keyPair(t.Before, t.view), Token: token(t.CallID, t.InstanceID, t.saved.OldDisk),
		})
		j.sent([]imageTarget{t}, err, "replacing", waitReplace, true)
	}
	if todo := j.todo[phaseStart]; len(todo) > 0 {
		if err := j.start(ctx, todo); err != nil {
			return err
		}
	}
	return nil
}

// start sets the user data where it differs and starts what is Stopped.
func (j *imageJob) start(ctx context.Context, todo []imageTarget) error {
	var stopped []imageTarget
	for _, t := range todo {
		if want := j.userData(t.Before, t.view); want != t.view.UserData && !t.saved.Undo {
			if err := j.API().ModifyInstanceAttribute(ctx, t.InstanceID, want); err != nil {
				j.sent([]imageTarget{t}, err, "", 0, t.view.Power == provider.Stopped)
				continue
			}
		}
		if t.view.Power == provider.Stopped {
			stopped = append(stopped, t)
		} else {
			j.sent([]imageTarget{t}, nil, "starting", waitStart, false)
		}
	}
	if len(stopped) > 0 {
		j.sent(stopped, j.API().StartInstances(ctx, imageIDs(stopped)), "starting", waitStart, false)
	}
	return nil
}
