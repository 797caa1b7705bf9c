package rollingupgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Plan is what Create would do. Making one changes nothing.
type Plan struct {
	GroupID string   `json:"group_id"`
	Kind    TaskKind `json:"kind"`
	// Batches are the batches in their order, with their instances.
	Batches []Batch `json:"batches"`
	// AskedBatches is the number of batches asked for, if it is a number; there may be fewer instances.
	AskedBatches int `json:"asked_batches,omitempty"`
	// UpToDate are instances that already run the wished image and count as succeeded.
	UpToDate []string `json:"up_to_date,omitempty"`
	// Excluded are the members that are left alone, with the reason.
	Excluded []Exclusion `json:"excluded,omitempty"`
	// InService is how many instances are in service now.
	InService int `json:"in_service"`
	// Findings are all findings of the checks, errors first.
	Findings []Finding `json:"findings,omitempty"`
	// Policy says in words what the task will do.
	Policy []string `json:"policy"`
	// Hash names the plan: what is done to which instances, in which batches. See [Spec.PlanHash].
	Hash string `json:"hash"`
}

// OK reports whether Create would accept the plan.
func (p *Plan) OK() bool {
	return !slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Severity == SeverityError })
}

// An Exclusion is a member that is left alone.
type Exclusion struct {
	InstanceID string `json:"instance_id"`
	Reason     string `json:"reason"`
}

// Severity says whether a finding forbids the task.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"   // Create refuses
	SeverityWarning Severity = "warning" // worth knowing
)

// A Finding is what a check before the start found.
type Finding struct {
	Severity Severity    `json:"severity"`
	Code     FindingCode `json:"code"`
	// InstanceIDs are the instances that it is about; empty for the group or the update.
	InstanceIDs []string `json:"instance_ids,omitempty"`
	// Text says it for a person.
	Text string `json:"text"`
}

// String returns severity, code and text, with the first few instances.
func (f Finding) String() string {
	s := fmt.Sprintf("%s %s: %s", f.Severity, f.Code, f.Text)
	if n := len(f.InstanceIDs); n > 3 {
		return fmt.Sprintf("%s (%s and %d more)", s, strings.Join(f.InstanceIDs[:3], ", "), n-3)
	} else if n > 0 {
		return s + " (" + strings.Join(f.InstanceIDs, ", ") + ")"
	}
	return s
}

// FindingCode names a check.
type FindingCode string

// The checks.
const (
	FindGroupMissing      FindingCode = "group_missing"
	FindGroupInactive     FindingCode = "group_inactive"
	FindGroupType         FindingCode = "group_type"
	FindGroupStopped      FindingCode = "group_stopped_by_service"
	FindGroupBusy         FindingCode = "group_busy"
	FindNoInstances       FindingCode = "no_instances"
	FindUnknownInclude    FindingCode = "unknown_include"
	FindNotRunning        FindingCode = "instance_not_running"
	FindLocked            FindingCode = "instance_locked"
	FindExpired           FindingCode = "instance_expired"
	FindImageMissing      FindingCode = "image_missing"
	FindImageUnavailable  FindingCode = "image_unavailable"
	FindImageDataDisks    FindingCode = "image_data_disks"
	FindImageOS           FindingCode = "image_os"
	FindImageArchitecture FindingCode = "image_architecture"
	FindImageSize         FindingCode = "image_size"
	FindImageSubscription FindingCode = "image_not_subscribed"
	FindInstanceRefresh   FindingCode = "instance_refresh"
	FindScriptKind        FindingCode = "script_kind"
	FindAgentOffline      FindingCode = "agent_offline"
	FindLoginLost         FindingCode = "login_lost"
	FindCapacity          FindingCode = "capacity"
	FindCustomWeight      FindingCode = "custom_weight"
	FindSnapshotPolicy    FindingCode = "snapshot_policy"
	FindDesiredCapacity   FindingCode = "desired_capacity"
	FindActivity          FindingCode = "activity_in_progress"
	FindNoRollback        FindingCode = "no_rollback"
	FindConfiguration     FindingCode = "configuration_image"
	FindLaunchTemplate    FindingCode = "launch_template"
	FindDataDiskLoss      FindingCode = "data_disk_loss"
	FindClamped           FindingCode = "batches_clamped"
	FindAllUpToDate       FindingCode = "all_up_to_date"
	FindNotInspected      FindingCode = "not_inspected"
	FindLeftovers         FindingCode = "leftovers_taken_over"
)

// A view is what the cloud shows to the planner.
type view struct {
	group   *provider.Group // nil: does not exist
	members []provider.Instance
	inspect *provider.Inspection // nil: not inspected
	// wanted are the images of instances that get another one than the spec's, and images what these are.
	wanted map[string]string
	images map[string]*provider.Image
	// sets says that the provider can set the configuration's image.
	sets bool
}

// division is which instances are worked on, in which order, and which are not.
type division struct {
	targets  []provider.Instance
	upToDate []provider.Instance
	excluded []Exclusion
	sizes    []int
}

// divide selects and divides the members. For a rollback, rows are the instances to work on.
func divide(s *Spec, kind TaskKind, rows []Instance, members []provider.Instance) division {
	var d division
	byID := make(map[string]*provider.Instance, len(members))
	for n := range members {
		byID[members[n].ID] = &members[n]
	}
	if kind == Rollback {
		ours := make(map[string]bool, len(rows))
		for n := range rows {
			if i := &rows[n]; i.Status == InstancePending {
				ours[i.ID] = true
				if s, reason := rollbackTarget(i, byID[i.ID], s); reason != "" {
					d.excluded = append(d.excluded, Exclusion{i.ID, reason})
				} else {
					d.targets = append(d.targets, s)
				}
			} else {
				ours[i.ID] = true
			}
		}
		for _, i := range members {
			if !ours[i.ID] {
				d.excluded = append(d.excluded, Exclusion{i.ID, "is not rolled back"})
			}
		}
	} else {
		leftover := map[string]string{}
		for n := range rows {
			if i := &rows[n]; i.Status == InstanceLeftover && i.InStandby {
				leftover[i.ID] = i.OriginID
			}
		}
		for n := range members {
			i := &members[n]
			switch reason := s.excludes(i, leftover); {
			case reason != "":
				d.excluded = append(d.excluded, Exclusion{i.ID, reason})
			case s.Targets.SkipUpToDate && s.Update.Image != nil && i.ImageID == s.Update.Image.ImageID:
				d.upToDate = append(d.upToDate, *i)
			default:
				d.targets = append(d.targets, *i)
			}
		}
	}
	sizes, err := SplitBatches(len(d.targets), s.Batches)
	if err != nil {
		panic("rollingupgrade: " + err.Error()) // the spec was validated when the task was created
	}
	d.sizes = sizes
	return d
}

// rollbackTarget says whether a row of a rollback can be worked on. One that is absent from the list stays in
// the plan: its batch asks for it by ID.
func rollbackTarget(i *Instance, shown *provider.Instance, s *Spec) (provider.Instance, string) {
	switch {
	case shown == nil:
		return provider.Instance{ID: i.ID}, ""
	case shown.Lifecycle == provider.InService, shown.Lifecycle == provider.Standby && i.InStandby,
		shown.Lifecycle == provider.Protected && s.Targets.IncludeProtected:
		return *shown, ""
	}
	return provider.Instance{}, fmt.Sprintf("is %s", shown.Lifecycle)
}

// excludes says why a member is left alone, or nothing.
func (s *Spec) excludes(i *provider.Instance, leftover map[string]string) string {
	t := &s.Targets
	switch {
	case slices.Contains(t.Exclude, i.ID):
		return "excluded by the spec"
	case len(t.Include) > 0 && !slices.Contains(t.Include, i.ID):
		return "not included by the spec"
	case i.Lifecycle == provider.InService:
		return ""
	case i.Lifecycle == provider.Protected && t.IncludeProtected:
		return ""
	case i.Lifecycle == provider.Standby && leftover[i.ID] != "":
		return "is Standby, left over from task " + leftover[i.ID]
	}
	return fmt.Sprintf("is %s", i.Lifecycle)
}

// hash names what is done to which instances in which batches.
func (d *division) hash(s *Spec) string {
	ids := make([]string, len(d.targets))
	for n := range d.targets {
		ids[n] = d.targets[n].ID
	}
	return hashOf(struct {
		Group  string
		Update Update
		IDs    []string
		Sizes  []int
	}{s.GroupID, s.Update, ids, d.sizes})
}

// makePlan says what a task would do and everything that speaks against it.
func makePlan(s *Spec, kind TaskKind, rows []Instance, v view) *Plan {
	p := &Plan{GroupID: s.GroupID, Kind: kind, AskedBatches: s.Batches.Count}
	d := divide(s, kind, rows, v.members)
	for _, i := range v.members {
		if i.Lifecycle == provider.InService {
			p.InService++
		}
	}
	taken := 0
	for n, size := range d.sizes {
		b := Batch{Number: n + 1}
		for _, i := range d.targets[taken : taken+size] {
			b.InstanceIDs = append(b.InstanceIDs, i.ID)
		}
		b.InService = p.InService - d.outOfService(taken, size, s.MaxInFlight)
		taken += size
		p.Batches = append(p.Batches, b)
	}
	for _, i := range d.upToDate {
		p.UpToDate = append(p.UpToDate, i.ID)
	}
	p.Excluded = d.excluded
	p.Hash = d.hash(s)
	f := findings{spec: s, kind: kind, plan: p, view: v, division: &d}
	p.Findings = f.all(rows)
	p.Policy = s.words(p)
	return p
}

// outOfService is how many instances that serve now are out of service at once while a batch is at work.
func (d *division) outOfService(from, size, maxInFlight int) int {
	n := 0
	for _, i := range d.targets[from : from+size] {
		if i.Lifecycle == provider.InService {
			n++
		}
	}
	if maxInFlight > 0 {
		n = min(n, maxInFlight)
	}
	return n
}

// words says what the task will do.
func (s *Spec) words(p *Plan) []string {
	targets := 0
	for _, b := range p.Batches {
		targets += len(b.InstanceIDs)
	}
	words := []string{
		fmt.Sprintf("%s of %d instances in %d batches (asked: %s)", s.what(), targets, len(p.Batches), s.Batches.words()),
		s.Pause.words(len(p.Batches)),
		s.Failure.words(),
		fmt.Sprintf("at least %d instances stay in service", s.minInService()),
	}
	if s.MaxInFlight > 0 {
		words = append(words, fmt.Sprintf("at most %d instances of a batch are at work at once", s.MaxInFlight))
	}
	if s.Drain > 0 {
		words = append(words, fmt.Sprintf("each instance rests %s in Standby before it is updated", s.Drain))
	}
	return words
}

func (s *Spec) what() string {
	switch {
	case s.Update.Image != nil:
		return "image " + clip(s.Update.Image.ImageID) + " for the system disk"
	case s.Update.Script != nil:
		return fmt.Sprintf("script (%s, %d bytes)", s.Update.Script.Type, len(s.Update.Script.Content))
	}
	return "update of kind " + clip(string(s.Update.Kind))
}

// finalize makes the plan final: from here on the task knows its instances.
func (m *machine) finalize(g *provider.Group, members []provider.Instance) {
	if g.State != "" && g.State != provider.GroupActive {
		m.undo(fmt.Sprintf("scaling group %s is %s", m.t.GroupID, g.State))
		return
	}
	d := divide(&m.t.Spec, m.t.Kind, m.t.Instances, members)
	switch {
	case len(d.targets) == 0 && len(d.upToDate) == 0:
		m.undo("no instance is left to work on")
		return
	case m.t.Spec.PlanHash != "" && d.hash(&m.t.Spec) != m.t.Spec.PlanHash:
		m.undo("the final members do not match the plan that was insisted on; look at a new plan")
		return
	}
	m.setRows(d, members)
	m.t.Sizes, m.t.AskedBatches = d.sizes, m.t.Spec.Batches.Count
	m.event(Event{Kind: EventPlanned, Cause: ByPolicy, Text: fmt.Sprintf("%d instances in %d batches", len(d.targets), len(d.sizes))})
	if slices.ContainsFunc(m.t.Instances, func(i Instance) bool { return i.Status == InstanceLeftover }) && m.t.Kind == Rollback {
		m.prepareMoves(func(i *Instance) bool { return i.Status == InstanceLeftover })
		m.stage(Preparing, stageReturning)
		return
	}
	m.stage(Upgrading, stageNext)
}

// setRows writes the rows of the final plan.
func (m *machine) setRows(d division, members []provider.Instance) {
	for _, s := range members { // what somebody has put back is not left over any more
		i := m.row(s.ID)
		if i == nil || s.Lifecycle == "" {
			continue
		}
		i.InStandby = i.InStandby && s.Lifecycle == provider.Standby
		i.Lifted = i.Lifted && s.Lifecycle != provider.Protected
	}
	have := make(map[string]Instance, len(m.t.Instances))
	for _, i := range m.t.Instances {
		have[i.ID] = i
	}
	var rows []Instance
	planned := map[string]bool{}
	add := func(id string, change func(*Instance)) {
		i := have[id]
		i.ID = id
		change(&i)
		rows = append(rows, i)
		planned[id] = true
	}
	var worked []Instance
	batch, left := 0, 0
	for _, t := range d.targets {
		if left == 0 {
			left = d.sizes[batch]
			batch++
		}
		left--
		i := have[t.ID]
		if i.Status == InstanceLeftover { // it is back in service; only what is still undone is kept
			i = Instance{Lifted: i.Lifted, OriginID: i.OriginID}
		}
		i.ID, i.Batch, i.Status = t.ID, batch, InstancePending
		worked = append(worked, i)
		planned[t.ID] = true
	}
	for _, e := range d.excluded {
		if i := have[e.InstanceID]; i.Status == InstanceLeftover && (i.InStandby || i.Lifted || i.Stopped) {
			continue
		}
		add(e.InstanceID, func(i *Instance) { i.Status, i.Note = InstanceExcluded, e.Reason })
	}
	for _, t := range d.upToDate {
		add(t.ID, func(i *Instance) { i.Status, i.Mark, i.EndedAt = InstanceSucceeded, UpToDate, m.now })
	}
	for _, i := range m.t.Instances {
		if !planned[i.ID] && i.Status == InstanceLeftover {
			rows = append(rows, i)
		}
	}
	m.t.Instances = append(rows, worked...)
	m.reindex()
	m.t.Progress = Progress{}
	for n := range m.t.Instances {
		i := &m.t.Instances[n]
		i.Pos = n
		m.count(i, +1)
		m.touch(i)
	}
}
