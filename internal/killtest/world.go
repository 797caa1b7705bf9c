package killtest

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

const (
	oldImage, newImage = "img-v1", "img-v2"
	oldData, newData   = "b2xk", "bmV3" // user data
	speed              = 400            // of the cloud
)

// An ending is what the operator does with an upgrade.
type ending string

const (
	toTheEnd         ending = ""
	thenRollBack     ending = "rollback when it has ended"
	rollBackPaused   ending = "rollback out of a pause"
	cancelRestore    ending = "cancel, then restore"
	cancelAndRestore ending = "cancel and restore in one"
	cancelRollBack   ending = "cancel, then rollback"
)

var endings = []ending{toTheEnd, thenRollBack, cancelRestore, toTheEnd, rollBackPaused, cancelAndRestore, toTheEnd, cancelRollBack, thenRollBack, toTheEnd}

// A scene is one group and what happens to it. It is drawn from the seed, by the parent and by the cloud.
type scene struct {
	spec        ru.Spec
	ending      ending
	cancelAfter time.Duration
	suspended   []provider.Process // by the user
	protected   int
	userData    bool
	badDisks    int // instances whose first replacement comes to nothing
}

func draw(s *settings) []scene {
	chance := rand.New(rand.NewPCG(s.Seed, 1)) //nolint:gosec // a test's draw
	all := make([]scene, s.Groups)
	for n := range all {
		c := &all[n]
		group := fmt.Sprintf("asg-%03d", n+1)
		c.ending = endings[n%len(endings)]
		c.spec = ru.Spec{
			GroupID: group, Batches: ru.InBatches(2 + chance.IntN(4)/3), ClientToken: fmt.Sprintf("up-%d-%s", s.Seed, group), MinInService: -1,
			Update: ru.Image(newImage), Rollback: ru.Image(oldImage),
		}
		if n%7 >= 4 {
			c.spec.Batches = ru.InBatches(2 + chance.IntN(4))
			c.spec.Update, c.spec.Rollback = ru.Script(provider.Shell, "upgrade"), ru.Script(provider.Shell, "downgrade")
		}
		c.spec.Pause.Mode = []ru.PauseMode{ru.PauseNever, ru.PauseNever, ru.PauseFirstBatch, ru.PauseEveryBatch}[chance.IntN(4)]
		if c.ending == rollBackPaused {
			c.spec.Pause.Mode = ru.PauseFirstBatch
		}
		if chance.IntN(4) == 0 {
			c.spec.MaxInFlight = s.Instances/4 + 1
		}
		if chance.IntN(5) == 0 {
			c.spec.Drain = 50 * time.Millisecond
		}
		c.cancelAfter = time.Duration(chance.Int64N(int64(6 * time.Second)))
		if c.spec.Update.Script != nil {
			c.cancelAfter = 1500*time.Millisecond + c.cancelAfter/3 // while a script is at work, with some luck
		}
		switch chance.IntN(4) {
		case 0:
			c.suspended = []provider.Process{provider.AlarmNotification}
		case 1:
			c.suspended = []provider.Process{provider.ScaleIn, provider.ScheduledAction}
		}
		if n%4 == 1 {
			c.protected, c.spec.Targets.IncludeProtected = 3, true
		}
		if c.spec.Update.Image != nil {
			c.userData = n%3 == 0
			c.badDisks = chance.IntN(2)
		}
	}
	return all
}

// newCloud makes the world of the scenes.
func newCloud(s *settings) *fake.Cloud {
	cfg := fake.Config{
		Speed: speed, Steps: fake.Steps{Script: 5 * time.Minute},
		Latency: fake.Latency{
			Read: 2 * speed * time.Millisecond, Write: 25 * speed * time.Millisecond,
			Standby: 50 * speed * time.Millisecond, Replace: 30 * speed * time.Millisecond,
		},
		Seed: s.Seed | 1, Jitter: 0.5,
		Script: func(r fake.ScriptRun) fake.ScriptResult {
			if h := fnv.New32a(); r.N == 1 {
				fmt.Fprint(h, s.Seed, r.InstanceID)
				if h.Sum32()%30 == 0 {
					return fake.ScriptResult{ExitCode: 1, Output: "no"}
				}
			}
			return fake.ScriptResult{Output: "done"}
		},
	}
	if s.Forget {
		cfg.TokenMemory = 2 * s.Timing.TokenTrust
	}
	cloud := fake.NewCloud(cfg)
	cloud.AddImages(provider.Image{ID: oldImage}, provider.Image{ID: newImage})
	for _, c := range draw(s) {
		group := fake.GroupSpec{ID: c.spec.GroupID, ImageID: oldImage, LoadBalancers: []string{"lb-" + c.spec.GroupID}, Suspended: c.suspended}
		member := fake.InstanceSpec{}
		if c.userData {
			group.UserData, member.UserData = newData, oldData
		}
		cloud.AddGroup(group)
		ids := cloud.AddInstances(group.ID, s.Instances-c.protected, member)
		member.Lifecycle = provider.Protected
		cloud.AddInstances(group.ID, c.protected, member)
		for _, id := range ids[:c.badDisks] {
			cloud.SetBehavior(id, fake.Behavior{FailReplaces: 1})
		}
	}
	return cloud
}
