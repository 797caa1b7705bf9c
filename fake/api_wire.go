package fake

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// What is here serves those who speak the cloud's wire protocol (package fake/openapi): reading
// all of the model in one call, tags, and a say in each call at its turn.

// A Turn is what [WithTurn] decides about a call.
type Turn struct {
	// Delay makes the answer come so much later; it is not divided by Config.Speed.
	Delay time.Duration
	// Err is answered in place of the call, which has no effect.
	Err error
	// quick makes it answer like any other write, however long such calls take.
	quick bool
}

type turnKey struct{}

// WithTurn returns a context for one wire call. When it is the call's turn, before anything happens, decide is called
// with the cloud locked: calls that arrive at one instant are asked in the cloud's own order, whatever the scheduler does.
func WithTurn(ctx context.Context, decide func(now time.Time) Turn) context.Context {
	return context.WithValue(ctx, turnKey{}, decide)
}

// turnOf asks for the turn of a call; the zero Turn if nobody has a say.
func turnOf(ctx context.Context, now time.Time) Turn {
	if decide, ok := ctx.Value(turnKey{}).(func(time.Time) Turn); ok {
		return decide(now)
	}
	return Turn{}
}

// A View reads the model during a call of [API.Read]. It must not be kept.
type View struct{ c *Cloud }

// Read makes one wire call that only reads. f is called with the cloud locked; an error of f is the call's.
func (a API) Read(ctx context.Context, action, groupID string, ids []string, f func(v View) error) error {
	return a.c.wire(ctx, action, groupID, ids, "", func(time.Time, caller) error { return f(View(a)) })
}

// Look reads the model without a call.
func (c *Cloud) Look(f func(v View)) { c.Now(func(*World) { f(View{c}) }) }

// Now is the model's time.
func (v View) Now() time.Time { return v.c.now }

// Groups returns all groups, in the order in which they were made.
func (v View) Groups() []GroupView {
	out := make([]GroupView, len(v.c.groupOrder))
	for n, g := range v.c.groupOrder {
		out[n] = v.c.viewGroup(g)
	}
	return out
}

// Members returns the members of a group, in the order in which they joined.
func (v View) Members(groupID string) []InstanceView {
	if v.c.groups[groupID] == nil {
		return nil
	}
	return v.c.views(groupID, nil)
}

// MembersPage returns the members of a group from one number on and up to another, without copying the others.
func (v View) MembersPage(groupID string, from, to int) []InstanceView {
	g := v.c.groups[groupID]
	if g == nil {
		return nil
	}
	to = min(to, len(g.members))
	from = min(max(from, 0), to)
	out := make([]InstanceView, 0, to-from)
	for _, i := range g.members[from:to] {
		out = append(out, v.c.viewInstance(i))
	}
	return out
}

// Instances returns those among ids that exist, in the order of ids; without ids all that there are, in the order in
// which they were made.
func (v View) Instances(ids ...string) []InstanceView {
	if len(ids) > 0 {
		return v.c.views("", ids)
	}
	out := make([]InstanceView, len(v.c.made))
	for n, i := range v.c.made {
		out[n] = v.c.viewInstance(i)
	}
	return out
}

// compareIDs orders counted IDs: i-0002 before i-0010 before i-10000.
func compareIDs(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// Disk returns the system disk of an instance.
func (v View) Disk(i InstanceView) DiskView {
	return DiskView{Disk: i.Disk, InstanceID: i.ID, ImageID: v.c.imageOfDisk(v.c.instances[i.ID]), InUse: !i.DiskReplacing}
}

// DiskOwner returns the instance whose system disk has the ID.
func (v View) DiskOwner(diskID string) (InstanceView, bool) {
	i := v.c.disks[diskID]
	if i == nil {
		return InstanceView{}, false
	}
	out := v.c.viewInstance(i)
	return out, out.Disk.ID == diskID
}

// Images returns all images, in the order in which they were added.
func (v View) Images() []provider.Image {
	out := make([]provider.Image, len(v.c.imageOrder))
	for n, id := range v.c.imageOrder {
		out[n] = *v.c.images[id]
	}
	return out
}

// Configurations returns all scaling configurations and launch templates, in the order in which they were made.
func (v View) Configurations() []ConfigurationView {
	out := make([]ConfigurationView, len(v.c.configIDs))
	for n, id := range v.c.configIDs {
		out[n] = v.c.viewConfiguration(v.c.configs[id])
	}
	return out
}

// Activities returns all activities, those that are over too, the newest first.
func (v View) Activities() []ActivityView {
	out := make([]ActivityView, 0, len(v.c.activities))
	for _, a := range v.c.activities {
		out = append(out, v.c.viewActivity(a))
	}
	slices.SortFunc(out, func(a, b ActivityView) int { return cmp.Or(b.Begin.Compare(a.Begin), compareIDs(b.ID, a.ID)) })
	return out
}

// Invocations returns the invocations that are still kept, the newest first; with ids those among them.
func (v View) Invocations(ids ...string) []InvocationView {
	var out []InvocationView
	for id, inv := range v.c.commands {
		if v.c.kept(inv) && (len(ids) == 0 || slices.Contains(ids, id)) {
			out = append(out, v.c.viewInvocation(inv, nil))
		}
	}
	slices.SortFunc(out, func(a, b InvocationView) int { return cmp.Or(b.Time.Compare(a.Time), compareIDs(b.ID, a.ID)) })
	return out
}

// Tags returns the tags of an instance or group, in the order in which their keys came.
func (v View) Tags(resourceID string) []Tag { return slices.Clone(v.c.tags[resourceID]) }

// A Tag is a mark on an instance or group.
type Tag struct{ Key, Value string }

// Tags returns the tags of an instance or group without a call.
func (c *Cloud) Tags(resourceID string) (tags []Tag) {
	c.Look(func(v View) { tags = v.Tags(resourceID) })
	return tags
}

// TagResources sets tags of instances or groups, which must exist: all of them, or none.
func (a API) TagResources(ctx context.Context, ids []string, tags []Tag) error {
	const action = "TagResources"
	c := a.c
	return c.wire(ctx, action, "", ids, "", func(_ time.Time, who caller) error {
		for _, id := range ids {
			if c.instances[id] == nil && c.groups[id] == nil {
				return c.refuse(who, action, "InvalidResourceId.NotFound", 404, provider.ErrNotFound, "does not exist", id)
			}
		}
		for _, id := range ids {
			for _, t := range tags {
				c.tags[id] = slices.DeleteFunc(c.tags[id], func(old Tag) bool { return old.Key == t.Key })
				c.tags[id] = append(c.tags[id], t)
			}
			e := Effect{Action: action, CallID: who.callID, Detail: tags[0].Key}
			if c.groups[id] != nil {
				e.GroupID = id
			}
			c.recordEffect(e, c.instances[id])
		}
		return nil
	})
}
