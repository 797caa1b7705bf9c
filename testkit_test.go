package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A bed is what a test of a rule stands on: one cloud, one store and one Runner, in one bubble.
// Every step that the rule takes for granted is demanded by the bed itself.
type bed struct {
	t     testing.TB
	cloud *fake.Cloud
	line  *line // to the cloud
	store *ru.MemoryStore
	r     *ru.Runner
	// rough says that the test makes the client do what a correct client never does, so that violations are not counted.
	rough bool
}

// inBubble runs f with simulated time.
func inBubble(t *testing.T, f func(t *testing.T)) {
	leaveOutOnWire(t)
	t.Parallel()
	synctest.Test(t, f)
}

// bubbled runs f as a subtest with simulated time.
func bubbled(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { inBubble(t, f) })
}

// newBed returns a bed on a cloud. When the test ends, it demands that the client did nothing that a correct
// client never does.
func newBed(t testing.TB, cloud *fake.Cloud, cfg ru.Config) *bed {
	t.Helper()
	b := &bed{t: t, cloud: cloud, line: lineTo(t, cloud), store: ru.NewMemoryStore()}
	b.r = b.runner(cfg)
	t.Cleanup(func() {
		if v := cloud.Violations(); len(v) > 0 && !b.rough {
			t.Errorf("the cloud saw what a correct client never does:\n%s", strings.Join(v, "\n"))
		}
	})
	return b
}

// demoBed returns a bed on a group of n instances in service, [fake.DemoGroup], that run [fake.DemoOldImage].
func demoBed(t testing.TB, n int) *bed {
	t.Helper()
	return newBed(t, fake.Demo(fake.Config{}, n), ru.Config{})
}

// groupBed returns a bed on one empty group with those properties; its ID is [fake.DemoGroup] if it has none.
func groupBed(t testing.TB, g fake.GroupSpec) *bed {
	t.Helper()
	if g.ID == "" {
		g.ID = fake.DemoGroup
	}
	cloud := fake.NewCloud(fake.Config{})
	cloud.AddImages(provider.Image{ID: fake.DemoOldImage}, provider.Image{ID: fake.DemoNewImage})
	cloud.AddGroup(g)
	return newBed(t, cloud, ru.Config{})
}

// runner returns another Runner on the bed's cloud and store.
func (b *bed) runner(cfg ru.Config) *ru.Runner {
	b.t.Helper()
	r, err := ru.New(b.line.face(), b.store, cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bed) ctx() context.Context { return b.t.Context() }

// imageSpec replaces the old image of the demo group by the new one, in so many batches.
func imageSpec(batches int, change ...func(*ru.Spec)) ru.Spec {
	s := ru.Spec{
		GroupID: fake.DemoGroup, Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage), Batches: ru.InBatches(batches),
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

// scriptSpec runs a script on the demo group, in so many batches.
func scriptSpec(batches int, change ...func(*ru.Spec)) ru.Spec {
	s := ru.Spec{
		GroupID: fake.DemoGroup, Update: ru.Script(provider.Shell, "up"), Rollback: ru.Script(provider.Shell, "down"), Batches: ru.InBatches(batches),
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

// pausing makes the task pause as mode says.
func pausing(mode ru.PauseMode) func(*ru.Spec) {
	return func(s *ru.Spec) { s.Pause.Mode = mode }
}

// everything allows that a batch takes out all instances.
func everything(s *ru.Spec) { s.MinInService = -1 }

// create creates a task and returns its ID.
func (b *bed) create(s ru.Spec) string {
	b.t.Helper()
	sum, err := b.r.Create(b.ctx(), s)
	if err != nil {
		b.t.Fatal(err)
	}
	return sum.ID
}

// rollback creates the rollback of a task and returns its ID.
func (b *bed) rollback(id string, s ru.RollbackSpec) string {
	b.t.Helper()
	sum, err := b.r.Rollback(b.ctx(), id, s)
	if err != nil {
		b.t.Fatal(err)
	}
	return sum.ID
}

// run drives a task until it ends or waits, and returns it.
func (b *bed) run(id string) *ru.Task {
	b.t.Helper()
	if err := b.r.Run(b.ctx(), id); err != nil {
		b.t.Fatal(err)
	}
	return b.task(id)
}

// runTo drives a task until it ends or waits, which must be in status want.
func (b *bed) runTo(id string, want ru.Status) *ru.Task {
	b.t.Helper()
	t := b.run(id)
	b.wantStatus(t, want)
	return t
}

func (b *bed) wantStatus(t *ru.Task, want ru.Status) {
	b.t.Helper()
	if t.Status != want {
		b.t.Fatalf("task is %s (%s), want %s\n%s", t.Status, t.Reason, want, b.story(t.ID))
	}
}

// start drives a task in the background and returns what waits until that is over, and gives the task. When the test ends the
// driving ends too.
func (b *bed) start(id string) (wait func() *ru.Task) {
	b.t.Helper()
	ctx, stop := context.WithCancel(b.ctx())
	done := make(chan error, 1)
	go func() { done <- b.r.Run(ctx, id) }()
	ended := false
	b.t.Cleanup(func() {
		stop()
		if !ended {
			<-done
		}
	})
	return func() *ru.Task {
		b.t.Helper()
		ended = true
		if err := <-done; err != nil {
			b.t.Fatal(err)
		}
		return b.task(id)
	}
}

// until waits, while a task is being driven in the background, until ok holds for it.
func (b *bed) until(id, what string, ok func(t *ru.Task) bool) *ru.Task {
	b.t.Helper()
	for range 24 * 3600 {
		if t := b.task(id); ok(t) {
			return t
		}
		time.Sleep(500 * time.Millisecond)
	}
	b.t.Fatalf("12 hours went by without this: %s\n%s", what, b.story(id))
	return nil
}

// untilStep waits until an instance is at a step.
func (b *bed) untilStep(id, instanceID string, s ru.Step) *ru.Task {
	b.t.Helper()
	return b.until(id, instanceID+" is "+string(s), func(t *ru.Task) bool {
		i := rowOf(t, instanceID)
		return i.Status == ru.InstanceRunning && i.Step == s
	})
}

// ok demands that a command was accepted.
func (b *bed) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) task(id string) *ru.Task {
	b.t.Helper()
	t, err := b.r.Get(b.ctx(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// rowOf returns a task's row of an instance; a zero row if there is none.
func rowOf(t *ru.Task, instanceID string) ru.Instance {
	for _, i := range t.Instances {
		if i.ID == instanceID {
			return i
		}
	}
	return ru.Instance{}
}

// shown is the status of an instance in a task, with its mark: "failed (canceled)".
func shown(i ru.Instance) string {
	if i.Mark == "" {
		return string(i.Status)
	}
	return fmt.Sprintf("%s (%s)", i.Status, i.Mark)
}

// statuses are the statuses, with their marks, of the instances that are part of a task's plan.
func statuses(t *ru.Task) map[string]string {
	all := map[string]string{}
	for _, i := range t.Instances {
		if i.Status != ru.InstanceExcluded && i.Status != ru.InstanceLeftover {
			all[i.ID] = shown(i)
		}
	}
	return all
}

// batches are the instances of a task by batch.
func batches(t *ru.Task) [][]string {
	all := make([][]string, len(t.Sizes))
	for _, i := range t.Instances {
		if i.Batch > 0 {
			all[i.Batch-1] = append(all[i.Batch-1], i.ID)
		}
	}
	return all
}

// events returns the events of a task, only those of some kinds if any are named.
func (b *bed) events(id string, kinds ...ru.EventKind) []ru.Event {
	b.t.Helper()
	var all []ru.Event
	for e, err := range b.store.Events(b.ctx(), id, 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		if len(kinds) == 0 || slices.Contains(kinds, e.Kind) {
			all = append(all, e)
		}
	}
	return all
}

// story is all that happened to a task, for the message of a failed test.
func (b *bed) story(id string) string {
	var s strings.Builder
	for _, e := range b.events(id) {
		fmt.Fprintf(&s, "%s %s %s %s %s -> %s %s\n", e.Time.Format("15:04:05"), e.Kind, e.Cause, e.InstanceID, e.From, e.To, e.Text)
	}
	return s.String()
}

// effects are the changes of state that the client made to an instance, or with an empty ID to the group, in
// order: "EnterStandby", "StopInstances", ...
func (b *bed) effects(instanceID string) []string {
	var all []string
	for _, e := range b.cloud.Effects() {
		if e.InstanceID == instanceID {
			all = append(all, e.Action)
		}
	}
	return all
}

// effectTime is when an action on an instance (or, with an empty ID, on any) last took place; zero if it did not.
func (b *bed) effectTime(action, instanceID string) time.Time {
	var at time.Time
	for _, e := range b.cloud.Effects() {
		if e.Action == action && (instanceID == "" || e.InstanceID == instanceID) {
			at = e.Time
		}
	}
	return at
}

// untouched demands that the client has changed nothing at all in the cloud.
func (b *bed) untouched() {
	b.t.Helper()
	for _, e := range b.cloud.Effects() {
		b.t.Errorf("the cloud was changed: %s", e)
	}
}

// instance is an instance as the cloud has it.
func (b *bed) instance(id string) fake.InstanceView {
	b.t.Helper()
	i, ok := b.cloud.InstanceView(id)
	if !ok {
		b.t.Fatalf("instance %s does not exist", id)
	}
	return i
}

// members are the lifecycle states of the group's instances.
func (b *bed) members() map[string]provider.Lifecycle {
	all := map[string]provider.Lifecycle{}
	for _, i := range b.cloud.Snapshot(fake.DemoGroup) {
		all[i.ID] = i.Lifecycle
	}
	return all
}

// inState are the members in a lifecycle state, in order.
func (b *bed) inState(l provider.Lifecycle) []string {
	all := b.members()
	maps.DeleteFunc(all, func(_ string, is provider.Lifecycle) bool { return is != l })
	return slices.Sorted(maps.Keys(all))
}

// suspended are the suspended processes of the group, in their fixed order.
func (b *bed) suspended() []provider.Process {
	b.t.Helper()
	g, ok := b.cloud.GroupView(fake.DemoGroup)
	if !ok {
		b.t.Fatal("the group does not exist")
	}
	return g.Suspended
}

// image is the image of the group's configuration source.
func (b *bed) image() string {
	b.t.Helper()
	c, err := b.cloud.Configuration(b.ctx(), fake.DemoGroup)
	if err != nil {
		b.t.Fatal(err)
	}
	return c.ImageID
}

// leftovers are a task's leftovers in short: "standby i-0001".
func leftovers(t *ru.Task) []string {
	var all []string
	for _, l := range t.Leftovers() {
		all = append(all, fmt.Sprintf("%s %s%s%s", l.Kind, l.InstanceID, l.Process, l.ConfigurationID))
	}
	return all
}

// diff demands that two values are equal.
func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// wantError demands that err wraps want.
func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

// idRange returns the IDs that a fresh cloud gives its instances, from one number to another: "i-0001", ...
func idRange(from, to int) []string {
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, fmt.Sprintf("i-%04d", n))
	}
	return all
}

// use makes another provider, on the same cloud and store, the one of the bed's Runner.
func (b *bed) use(other func(f fake.Face) provider.Provider, cfg ru.Config) {
	b.t.Helper()
	r, err := ru.New(other(b.line.face()), b.store, cfg)
	b.ok(err)
	b.r = r
}

// calls is how often a method of the provider was called.
func (b *bed) calls(op string) (n int) {
	for _, c := range b.cloud.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// runFor drives a task for at most d.
func (b *bed) runFor(id string, d time.Duration) *ru.Task {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx(), d)
	defer stop()
	_ = b.r.Run(ctx, id)
	return b.task(id)
}
