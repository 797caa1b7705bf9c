package aliyun

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// imageJob is one call of Update for an image.
type imageJob struct {
	*Provider
	groupID, imageID string
	answers          answers
	todo             map[string][]imageTarget // side effects to be made, by phase
	feed             *source                  // read when first needed
	img              *provider.Image          // read when first needed
	imgRead          bool
	looked           map[string]seenView // what was read for the targets
	since            time.Time           // of the latest attempt: what feeds the group is read again after it
}

// imageTarget is a target with what the cloud shows of it.
type imageTarget struct {
	provider.Target
	view  instanceView
	saved progressState
}

// instanceView is an instance and its system disk as the cloud shows them.
type instanceView struct {
	provider.Instance
	disk diskView
	// economical says that it was stopped in a way that gives its capacity back.
	economical bool
}

// updateImage brings instances a step nearer to running an image.
func (p *Provider) updateImage(ctx context.Context, groupID, imageID string, targets []provider.Target) (answers, error) {
	j := imageJob{Provider: p, groupID: groupID, imageID: imageID, answers: make(answers, len(targets)), todo: make(map[string][]imageTarget)}
	for _, t := range targets {
		if t.Since.After(j.since) {
			j.since = t.Since
		}
	}
	all, err := j.read(ctx, targets)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if err := j.consider(ctx, t); err != nil {
			return nil, err
		}
	}
	if err := j.firstUserData(ctx, all); err != nil {
		return nil, err
	}
	return j.answers, j.send(ctx)
}

// read reads the targets' states, instances and disks, and answers for those that have none.
func (j *imageJob) read(ctx context.Context, targets []provider.Target) ([]imageTarget, error) {
	all := make([]imageTarget, 0, len(targets))
	for _, t := range targets {
		saved, err := readState(t)
		if err != nil {
			j.answers.fail(t.InstanceID, err)
			continue
		}
		all = append(all, imageTarget{Target: t, saved: saved})
	}
	if err := j.look(ctx, all); err != nil {
		return nil, err
	}
	there := all[:0]
	for _, t := range all {
		v := j.looked[t.InstanceID]
		switch {
		case v.instance != nil:
			t.view = viewOf(v.instance)
		case v.unread: // disks are replaced of nothing but Stopped instances
			t.view = instanceView{Instance: provider.Instance{ID: t.InstanceID, Power: provider.Stopped}}
		default:
			j.answers.fail(t.InstanceID, ofInstance(t.InstanceID, provider.ErrNotFound))
			continue
		}
		there = append(there, t)
	}
	all = there
	for n := range all {
		t := &all[n]
		v := j.looked[t.InstanceID]
		t.view.disk = v.disk
		// Between the release of the old disk and the making of the new one there may be none.
		t.view.DiskReplacing = !v.disked || v.replacing()
		ours := v.disk.imageID == j.imageID || v.disk.ID == t.saved.NewDisk
		if replaced := v.disked && t.saved.OldDisk != "" && v.disk.ID != t.saved.OldDisk; replaced && ours {
			// The instance shows its image late, and may be locked until the replacement is over.
			t.view.DiskReplacing = t.view.DiskReplacing || t.view.ImageID != j.imageID || len(t.view.Locks) > 0
		}
	}
	return all, nil
}

// starts reports whether the instance was started from its new disk, which was seen in use then: it cannot be replaced before the
// instance is Stopped again, and need not be read any more.
func (s progressState) starts() bool { return s.Phase == phaseStarting && s.NewDisk != "" && !s.Undo }

// stops reports whether the instance was told to stop: its disk cannot be replaced before it is Stopped, and need not be read as long as
// it is Stopping.
func (s progressState) stops() bool { return s.Phase == phaseStopping && s.OldDisk != "" }

// replaces reports whether the replacement was accepted: the instance need not be read as long as the new disk, which the service has named, is
// not in use.
func (s progressState) replaces() bool { return s.Phase == phaseReplacing && s.NewDisk != "" }

// look reads instances and their disks. For the call that acts right after a look, what that has shown is enough. Where all are only waited for,
// what shows that it goes on is read first, and the rest only where it does not.
func (j *imageJob) look(ctx context.Context, all []imageTarget) error {
	ids, targets := make([]string, len(all)), make([]provider.Target, len(all))
	for n, t := range all {
		ids[n], targets[n] = t.InstanceID, t.Target
	}
	if fresh(targets) {
		if seen, ok := j.recent.takeViews(ids); ok {
			j.looked = seen
			return nil
		}
	}
	var first, then imageReading
	for _, t := range all { // one call takes all of them, so that it need not be made only if nobody needs it
		if t.CallID != "" || !t.saved.replaces() {
			first.instances = ids
		}
		if t.CallID != "" || !t.saved.starts() {
			then.disks = append(then.disks, t.diskQuery())
		}
	}
	for _, t := range all {
		if t.CallID != "" || !t.saved.starts() && !t.saved.stops() {
			first.disks, then.disks = then.disks, nil
			break
		}
	}
	if err := first.read(ctx, j.Provider); err != nil {
		return err
	}
	if first.instances == nil {
		for _, t := range all {
			if v := first.view(t); !v.disked || v.disk.inUse { // over, or to be explained by the instance: it may have gone
				then.instances = append(then.instances, t.InstanceID)
			}
		}
	}
	then.disks = slices.DeleteFunc(then.disks, func(q diskQuery) bool { return first.stopping(q.instanceID) })
	if err := then.read(ctx, j.Provider); err != nil {
		return err
	}
	j.looked = make(map[string]seenView, len(ids))
	for _, t := range all {
		v, more := first.view(t), then.view(t)
		if !v.disked {
			v.disk, v.disked = more.disk, more.disked
		}
		if v.instance == nil {
			v.instance = more.instance
		}
		v.coming = v.coming || more.coming
		v.unread = first.instances == nil && !slices.Contains(then.instances, t.InstanceID)
		if unread := t.saved.starts() || t.saved.stops() && first.stopping(t.InstanceID); !v.disked && unread && t.CallID == "" {
			v.disk, v.disked = t.saved.disk(t.InstanceID, j.imageID), true
		}
		j.looked[t.InstanceID] = v
	}
	return nil
}

// disk is the disk that needs no reading.
func (s progressState) disk(instanceID, imageID string) diskView {
	d := diskView{Disk: provider.Disk{ID: s.OldDisk, SizeGiB: s.SizeGiB, Encrypted: s.Encrypted, KMSKeyID: s.KMSKeyID}, instanceID: instanceID, inUse: true}
	if s.starts() {
		d.ID, d.imageID = s.NewDisk, imageID
	}
	return d
}

// An imageReading reads instances and disks at the same time.
type imageReading struct {
	instances []string
	disks     []diskQuery

	found  map[string]*ecs.Instance
	system map[string]diskView
}

func (r *imageReading) read(ctx context.Context, p *Provider) error {
	return together(func() (err error) {
		if len(r.instances) > 0 {
			r.found, err = p.describe(ctx, r.instances)
		}
		return err
	}, func() (err error) {
		if len(r.disks) > 0 {
			r.system, err = p.systemDisks(ctx, r.disks)
		}
		return err
	})
}

// view is what the reading has shown of a target.
func (r *imageReading) view(t imageTarget) (v seenView) {
	v.instance = r.found[t.InstanceID]
	v.disk, v.disked = r.system[t.InstanceID]
	_, v.coming = r.system[t.saved.NewDisk] // made, and not yet in its place
	return v
}

// stopping reports whether the reading has shown the instance Stopping.
func (r *imageReading) stopping(id string) bool {
	i := r.found[id]
	return i != nil && i.Status == string(provider.Stopping)
}

// diskQuery asks for the target's disk: if it is another one than the one that is known it is asked for by instance.
func (t imageTarget) diskQuery() diskQuery {
	q := diskQuery{instanceID: t.InstanceID}
	if id := firstOf(t.saved.NewDisk, t.saved.OldDisk); id != "" {
		q.known = []string{id}
	}
	return q
}

func viewOf(i *ecs.Instance) instanceView {
	return instanceView{Instance: asInstance(i, ""), economical: i.StoppedMode == "StopCharging"}
}

// consider decides about one target: an answer, or a side effect to be made.
func (j *imageJob) consider(ctx context.Context, t imageTarget) error {
	next, err := j.next(ctx, t)
	if err != nil {
		return err
	}
	if !due(t.Target, t.saved, next.act) || t.saved.OldDisk == "" {
		if next.act != "" {
			j.recent.keepView(t.InstanceID, j.looked[t.InstanceID])
		}
		j.answers[t.InstanceID] = next.progress()
		return nil
	}
	if t.Stale { // the cloud shows that it has not happened
		j.answers[t.InstanceID] = provider.Progress{
			Err: fmt.Errorf("%s: instance %s: %w", next.act, t.InstanceID, provider.ErrNotBegun), State: t.saved.json(), Stopped: next.stopped,
		}
		return nil
	}
	if next.act == phaseReplace && len(j.todo[phaseReplace]) >= j.cfg.ReplaceTargets {
		j.answers.unsent(t.Target, t.saved, fmt.Errorf("more than %d replacements in one call: %w", j.cfg.ReplaceTargets, provider.ErrBusy))
		return nil
	}
	j.todo[next.act] = append(j.todo[next.act], t)
	return nil
}

// next says what comes next for an instance: it follows from what the cloud shows and from the old disk that the state names.
func (j *imageJob) next(ctx context.Context, t imageTarget) (step, error) {
	v, saved := t.view, t.saved
	s := step{state: saved}
	s.state.Undo = saved.Undo || t.Stop
	s.stopped = v.Power == provider.Stopping || v.Power == provider.Stopped
	if saved.OldDisk == "" && !v.DiskReplacing { // otherwise it is somebody else's replacement, and the disk not yet the one to be replaced
		s.state.OldDisk, s.state.SizeGiB = v.disk.ID, v.disk.SizeGiB
		s.state.Encrypted, s.state.KMSKeyID = v.disk.Encrypted, v.disk.KMSKeyID
		disk := v.disk.Disk
		s.before = &provider.Before{ImageID: v.ImageID, Power: v.Power, KeyPair: v.KeyPair, Disk: &disk}
	}
	switch {
	case v.DiskReplacing:
		s.stopped = v.Power != provider.Running
		s = s.waiting(phaseReplacing, waitShown)
		if saved.OldDisk == "" {
			s.state = progressState{}
		}
		return s, nil
	case v.Power == provider.Stopping:
		return s.waiting(phaseStopping, waitShown), nil
	case v.Power == provider.Starting || v.Power == provider.PowerPending:
		return s.waiting(phaseStarting, waitShown), nil
	case v.disk.ID != s.state.OldDisk:
		return j.afterReplace(ctx, t, s)
	}
	return j.beforeReplace(ctx, t, s)
}

// waiting waits for something that the cloud shows to be under way.
func (s step) waiting(phase string, after time.Duration) step {
	s.wait, s.after, s.state.Phase, s.state.Unseen = phase, after, phase, 0
	return s
}

// unseen waits for something that was accepted and does not show yet, longer from look to look. over says that it has been waited for
// long enough.
func (s step) unseen(phase string, most time.Duration, patience int) (_ step, over bool) {
	s.state.Unseen++
	s.wait, s.after, s.state.Phase = phase, min(most, waitShown<<min(s.state.Unseen, 5)), phase
	return s, s.state.Unseen > patience
}

// acting asks for a call that makes a side effect.
func (s step) acting(phase string, limit int) step {
	s.act, s.state.Phase, s.state.Unseen, s.limit = phase, phase, 0, limit
	return s
}

// beforeReplace says what comes next for an instance that has its old disk and is Running or Stopped.
func (j *imageJob) beforeReplace(ctx context.Context, t imageTarget, s step) (step, error) {
	v, saved := t.view, t.saved
	running := v.Power == provider.Running
	switch {
	case saved.Phase == phaseReplacing && len(v.Locks) > 0:
		s.stopped = true
		return s.waiting(phaseReplacing, waitShown), nil
	case saved.Phase == phaseReplacing:
		patience := patienceReplace
		if saved.NewDisk != "" { // the service has named the new disk: it has accepted the order
			patience = patienceNamed
		}
		if late, over := s.unseen(phaseReplacing, waitReplace, patience); !over {
			late.stopped = true
			return late, nil
		}
		if !s.state.Undo {
			return failed(s, phaseReplace, "the replacement of the system disk of %s came to nothing", v.ID), nil
		}
	case saved.Phase == phaseStopping && running:
		if late, over := s.unseen(phaseStopping, waitStop, patienceStop); !over {
			late.stopped = true
			return late, nil
		}
	}
	switch {
	case s.state.Undo && running:
		s.done = provider.NotUpdated
		return s, nil
	case s.state.Undo:
		return j.starting(s, saved, v), nil
	}
	if t.Resent && saved.Phase == phaseReplace && len(v.Locks) > 0 { // by our own replacement, whose answer was lost
		s.stopped = true
		return s.waiting(phaseReplacing, waitReplace), nil
	}
	if err := j.unfit(ctx, v); err != nil && !(t.Resent && saved.Phase == phaseReplace) { // what was sent before may be under way: the service decides
		if provider.Unknown(err) || provider.Retryable(err) { // the image could not be read
			return s, err
		}
		s.err, s.state = err, progressState{}
		return s, nil
	}
	if running {
		return s.acting(phaseStop, 0), nil
	}
	return s.acting(phaseReplace, j.cfg.ReplaceTargets), nil
}

// starting starts an instance that is Stopped, unless it was started already and does not come up.
func (j *imageJob) starting(s step, saved progressState, v instanceView) step {
	if saved.Phase == phaseStarting {
		if late, over := s.unseen(phaseStarting, waitStart, patienceStart); !over {
			return late
		}
		return failed(s, phaseStart, "%s was started and is %s", v.ID, v.Power)
	}
	return s.acting(phaseStart, 0)
}

// afterReplace says what comes next for an instance that has its new disk and is Running or Stopped.
func (j *imageJob) afterReplace(ctx context.Context, t imageTarget, s step) (step, error) {
	v := t.view
	s.state.Undo = false
	if v.ImageID != j.imageID { // somebody else's replacement; a retry starts afresh
		return failed(step{stopped: s.stopped}, "", "%s runs image %s", v.ID, clean(v.ImageID, nil)), nil
	}
	if v.Power != provider.Running {
		return j.starting(s, t.saved, v), nil
	}
	if !s.state.UserData { // it came up by itself, or the answer to the start was lost
		want, err := j.userDataOf(ctx, t.Before)
		if err != nil {
			return s, err
		}
		if want != "" {
			has, err := j.userData(ctx, v.ID)
			if err != nil {
				return s, err
			}
			if !sameData(has, want) {
				return s.acting(phaseStart, 0), nil
			}
		}
	}
	s.done, s.fit = provider.Updated, true
	return s, nil
}

// failed ends the update; a retry starts from the side effect phase.
func failed(s step, phase, format string, args ...any) step {
	s.err = fmt.Errorf(format+": %w", append(args, provider.ErrFailed)...)
	s.state.Phase, s.state.Unseen, s.wait, s.act = phase, 0, "", ""
	return s
}

// unfit says why the instance cannot take the image, before anything is done to it.
func (j *imageJob) unfit(ctx context.Context, v instanceView) error {
	if !j.imgRead {
		img, err := j.image(ctx, j.imageID)
		if err != nil {
			return err
		}
		j.img, j.imgRead = img, true
	}
	if err := unusable(j.img, j.imageID); err != nil {
		return err
	}
	switch {
	case len(v.Locks) > 0:
		return fmt.Errorf("instance %s is locked (%v): %w", v.ID, v.Locks, provider.ErrInvalidState)
	case v.Expired:
		return fmt.Errorf("instance %s has expired: %w", v.ID, provider.ErrInvalidState)
	case v.Power == provider.Stopped && v.economical:
		return fmt.Errorf("instance %s was stopped in economical mode, its disk cannot be replaced; start it: %w", v.ID, provider.ErrInvalidState)
	case j.img.SizeGiB > v.disk.SizeGiB:
		return fmt.Errorf("image %s needs %d GiB, the disk of %s has %d: %w", clean(j.imageID, nil), j.img.SizeGiB, v.ID, v.disk.SizeGiB, provider.ErrInvalid)
	}
	return nil
}

// source is what feeds the group. Without a group the instance is the source.
func (j *imageJob) source(ctx context.Context) (source, error) {
	if j.feed == nil {
		s, err := j.recentSource(ctx, j.groupID, j.since)
		if err != nil && !errors.Is(err, provider.ErrNotFound) {
			return source{}, err
		}
		j.feed = &s
	}
	return *j.feed, nil
}
