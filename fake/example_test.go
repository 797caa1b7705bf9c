package fake_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A cloud with ten instances; the second call of EnterStandby is throttled.
func Example() {
	ctx := context.Background()
	cloud := fake.Demo(fake.Instant(), 10)
	cloud.Inject(fake.Fault{Op: "EnterStandby", Nth: 2, Err: provider.ErrThrottled})

	for _, id := range []string{"i-0001", "i-0002"} {
		_, err := cloud.EnterStandby(ctx, fake.DemoGroup, []provider.Target{{InstanceID: id, CallID: "enter-" + id}})
		fmt.Println(id, "throttled:", errors.Is(err, provider.ErrThrottled))
	}
	group, err := cloud.Group(ctx, fake.DemoGroup)
	fmt.Println(group.InService, "in service,", group.Standby, "in standby", err)
	// Output:
	// i-0001 throttled: false
	// i-0002 throttled: true
	// 9 in service, 1 in standby <nil>
}

// A group of one's own: one instance in Standby, one whose script fails once, one that vanishes at once.
func ExampleCloud_AddGroup() {
	cloud := fake.NewCloud(fake.Instant())
	cloud.AddGroup(fake.GroupSpec{ID: "asg-1", Instances: 2, ImageID: "img-1", LoadBalancers: []string{"lb-1"}})
	cloud.AddInstances("asg-1", 1, fake.InstanceSpec{Lifecycle: provider.Standby})
	cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{ExitCode: 3, Output: "disk full"}, {}}})
	cloud.Release("i-0002")

	for _, i := range cloud.Snapshot("asg-1") {
		fmt.Println(i.ID, i.Lifecycle, i.Power, i.ImageID, "weight", i.Weight)
	}
	// Output:
	// i-0001 InService Running img-1 weight 50
	// i-0003 Standby Running img-1 weight 0
}
