package rollingupgrade

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Plan says what Create would do with spec, and everything that speaks against it, without changing anything. It returns
// ErrInvalid for a spec that is not acceptable, and the provider's error if the cloud could not be read.
func (r *Runner) Plan(ctx context.Context, spec Spec) (*Plan, error) {
	if err := r.validate(&spec); err != nil {
		return nil, &OpError{"plan", "upgrade of " + clip(spec.GroupID), err}
	}
	prior, err := r.latest(ctx, spec.GroupID)
	if err != nil {
		return nil, &OpError{"plan", "upgrade of " + spec.GroupID, err}
	}
	return r.plan(ctx, "plan", &spec, Upgrade, inheritRows(prior), prior)
}

func (r *Runner) validate(spec *Spec) error {
	err := spec.Validate()
	if err == nil {
		err = r.known("Spec.Update.Kind", spec.Update.Kind)
	}
	return err
}

// plan reads the cloud and makes a plan.
func (r *Runner) plan(ctx context.Context, op string, s *Spec, kind TaskKind, rows []Instance, prior *Task) (*Plan, error) {
	v, err := r.view(ctx, s, rows)
	if err != nil {
		return nil, &OpError{op, string(kind) + " of " + s.GroupID, err}
	}
	p := makePlan(s, kind, rows, v)
	if prior != nil && prior.HoldsGroup && kind == Upgrade {
		p.Findings = append([]Finding{{Severity: SeverityError, Code: FindGroupBusy, Text: (&GroupBusyError{s.GroupID, prior.ID}).Error()}}, p.Findings...)
	}
	return p, nil
}

// view reads what the planner needs. rows may name images of their own.
func (r *Runner) view(ctx context.Context, s *Spec, rows []Instance) (view, error) {
	var v view
	_, v.sets = r.provider.(provider.ConfigurationSetter)
	g, err := r.provider.Group(ctx, s.GroupID)
	if errors.Is(err, provider.ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	if v.members, err = r.provider.Members(ctx, s.GroupID); errors.Is(err, provider.ErrNotFound) {
		return v, nil
	} else if err != nil {
		return v, err
	}
	v.members = unique(v.members)
	v.group = &g
	inspector, ok := r.provider.(provider.Inspector)
	if !ok {
		return v, nil
	}
	ids := make([]string, 0, len(v.members))
	for _, i := range v.members {
		ids = append(ids, i.ID)
	}
	in, err := inspector.Inspect(ctx, s.GroupID, s.Update, ids)
	if err != nil {
		return v, err
	}
	v.inspect = &in
	for n := range rows {
		u := rows[n].Update
		if u == nil || u.Image == nil || u.Image.ImageID == s.Update.Image.ImageID {
			continue
		}
		if v.wanted == nil {
			v.wanted, v.images = map[string]string{}, map[string]*provider.Image{}
		}
		v.wanted[rows[n].ID] = u.Image.ImageID
		if _, seen := v.images[u.Image.ImageID]; seen {
			continue
		}
		in, err := inspector.Inspect(ctx, s.GroupID, *u, []string{rows[n].ID})
		if err != nil {
			return v, err
		}
		v.images[u.Image.ImageID] = in.Image
	}
	return v, nil
}

// unique drops instances that are listed twice.
func unique(all []provider.Instance) []provider.Instance {
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(i provider.Instance) bool {
		twice := seen[i.ID]
		seen[i.ID] = true
		return twice
	})
}

// latest returns the newest task of a group, or nil.
func (r *Runner) latest(ctx context.Context, groupID string) (*Task, error) {
	for h, err := range r.store.List(ctx, Filter{GroupID: groupID}) {
		if err != nil {
			return nil, err
		}
		if h.NextID == "" {
			return r.load(ctx, h.ID)
		}
	}
	return nil, nil
}

func (r *Runner) load(ctx context.Context, id string) (*Task, error) {
	t, err := r.store.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if t.Schema > SchemaVersion {
		return nil, fmt.Errorf("task %s has schema %d, this version knows %d: %w", id, t.Schema, SchemaVersion, ErrNewerSchema)
	}
	return t, nil
}

// Create checks the spec and the cloud and creates a task. Nothing is changed in the cloud by it: from then on Run or Serve does the work
// without further questions. A call repeated with the same Spec.ClientToken and the same spec returns the same task.
//
// It returns ErrInvalid for a spec that is not acceptable, a *[PrecheckError] (ErrPrecheck, ErrPlanChanged) with all findings, a
// *[GroupBusyError] (ErrGroupBusy) while another task holds the group, ErrClientTokenMismatch, or the error of store or provider.
func (r *Runner) Create(ctx context.Context, spec Spec) (Summary, error) {
	op := func(err error) (Summary, error) {
		return Summary{}, &OpError{"create", "upgrade of " + clip(spec.GroupID), err}
	}
	if err := r.validate(&spec); err != nil {
		return op(err)
	}
	t := &Task{Head: Head{Kind: Upgrade, GroupID: spec.GroupID, Spec: spec, SpecHash: spec.hash()}}
	if done, err := r.identify(ctx, t, spec.ClientToken); done != nil || err != nil {
		if err != nil {
			return op(err)
		}
		return done.Summary(), nil
	}
	for range commandTries {
		prior, err := r.latest(ctx, spec.GroupID)
		if err != nil {
			return op(err)
		}
		if prior != nil && prior.HoldsGroup {
			return op(&GroupBusyError{spec.GroupID, prior.ID})
		}
		rows := inheritRows(prior)
		p, err := r.plan(ctx, "create", &spec, Upgrade, rows, prior)
		if err != nil {
			return Summary{}, err
		}
		if err := accept(p, spec.PlanHash); err != nil {
			return op(err)
		}
		t.Instances, t.Ledger = rows, inheritLedger(prior)
		s, err := r.add(ctx, t, prior, ByOperator, nil)
		if !errors.Is(err, ErrVersionConflict) {
			if err != nil {
				return op(err)
			}
			return s, nil
		}
	}
	return op(ErrVersionConflict)
}

// accept refuses a plan with errors, or another one than was insisted on.
func accept(p *Plan, hash string) error {
	changed := hash != "" && hash != p.Hash
	if changed || !p.OK() {
		return &PrecheckError{Plan: p, Changed: changed}
	}
	return nil
}

// identify gives a new task its ID. With a client token that was used before it returns the task of that time.
func (r *Runner) identify(ctx context.Context, t *Task, token string) (*Head, error) {
	if token == "" {
		t.ID = "task-" + strings.ToLower(rand.Text()[:20])
		return nil, nil
	}
	sum := sha256.Sum256([]byte(token))
	t.ID = "task-" + hex.EncodeToString(sum[:10])
	h, err := r.store.Head(ctx, t.ID)
	if errors.Is(err, ErrTaskNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return h, sameTask(h, t)
}

// sameTask refuses a client token that was used for something else.
func sameTask(h *Head, t *Task) error {
	if h.SpecHash != t.SpecHash || h.Kind != t.Kind || h.SourceID != t.SourceID {
		return fmt.Errorf("%w: it made task %s", ErrClientTokenMismatch, h.ID)
	}
	return nil
}

// add puts a task in the store in place of prior, whose record is changed by change in the same transaction.
func (r *Runner) add(ctx context.Context, t *Task, prior *Task, by Cause, change func(*machine)) (Summary, error) {
	now := time.Now().UTC().Round(0)
	t.Schema, t.Status, t.CreatedAt, t.HoldsGroup, t.Version = SchemaVersion, StatusPending, now, true, 1
	t.Nonce = newNonce()
	t.EventSeq = 1
	c := Creation{Task: t, Events: []Event{{Seq: 1, Time: now, Kind: EventCreated, Cause: by, Text: t.Spec.what()}}}
	if prior != nil {
		t.PriorID = prior.ID
		m := newMachine(prior, r.env, now)
		if change != nil {
			change(m)
		}
		m.t.NextID, m.t.Nonce = t.ID, newNonce()
		m.event(Event{Kind: EventTakenOver, Cause: by, Text: fmt.Sprintf("task %s follows and owns what is left over", t.ID)})
		priorChange := m.change()
		c.Prior = &priorChange
	}
	err := r.store.Create(ctx, c)
	switch {
	case err == nil:
		return t.Summary(), nil
	case errors.Is(err, ErrTaskExists):
		h, herr := r.store.Head(ctx, t.ID)
		if herr != nil {
			return Summary{}, herr
		}
		return h.Summary(), sameTask(h, t)
	case errors.Is(err, ErrVersionConflict), errors.Is(err, ErrGroupBusy):
		return Summary{}, err
	}
	// The answer was lost, or the store is in trouble: look whether the task is there.
	// Its ID belongs to this call or to its client token; somebody may have saved it since.
	lookCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.CallLimit)
	defer cancel()
	if h, herr := r.store.Head(lookCtx, t.ID); herr == nil && sameTask(h, t) == nil {
		return h.Summary(), nil
	}
	return Summary{}, err
}

func newNonce() string { return rand.Text() }

// Rollback creates the task that rolls another one back. A task that waits is canceled in the same step. Run or Serve does the work.
//
// It returns a *[CommandError] that wraps ErrIllegalCommand and, more exactly, ErrIsRollback, ErrNotLatest or ErrNothingToRollBack;
// and else the errors of Create.
func (r *Runner) Rollback(ctx context.Context, taskID string, spec RollbackSpec) (Summary, error) {
	return r.rollback(ctx, taskID, spec, ByOperator)
}

// rollback is Rollback at anybody's request.
func (r *Runner) rollback(ctx context.Context, taskID string, spec RollbackSpec, by Cause) (Summary, error) {
	for range commandTries {
		t, source, tail, err := r.rollbackTask(ctx, taskID, &spec)
		if err != nil {
			return Summary{}, &OpError{"roll back", clip(taskID), err}
		}
		if t == nil { // created by an earlier call with the same client token
			return source.Summary(), nil
		}
		p, err := r.plan(ctx, "roll back", &t.Spec, Rollback, t.Instances, tail)
		if err != nil {
			return Summary{}, err
		}
		if err := accept(p, spec.PlanHash); err != nil {
			return Summary{}, &OpError{"roll back", taskID, err}
		}
		s, err := r.add(ctx, t, tail, by, func(m *machine) {
			if m.t.Status.Waiting() {
				m.status(onRollback, by, "rolled back by task "+t.ID)
				m.stage("", "")
			}
		})
		if !errors.Is(err, ErrVersionConflict) {
			if err != nil {
				return Summary{}, &OpError{"roll back", taskID, err}
			}
			return s, nil
		}
	}
	return Summary{}, &OpError{"roll back", taskID, ErrVersionConflict}
}

// PlanRollback says what Rollback would do, without doing it. Its errors are those of Rollback, the prechecks aside.
func (r *Runner) PlanRollback(ctx context.Context, taskID string, spec RollbackSpec) (*Plan, error) {
	spec.ClientToken = ""
	t, _, tail, err := r.rollbackTask(ctx, taskID, &spec)
	if err != nil {
		return nil, &OpError{"plan rollback of", clip(taskID), err}
	}
	return r.plan(ctx, "plan", &t.Spec, Rollback, t.Instances, tail)
}

// rollbackTask makes the record of a rollback, without keeping it. It returns no task, and the earlier one as
// source, if the client token made it already.
func (r *Runner) rollbackTask(ctx context.Context, taskID string, rs *RollbackSpec) (t, source, tail *Task, err error) {
	if source, err = r.load(ctx, taskID); err != nil {
		return nil, nil, nil, err
	}
	spec := rs.spec(&source.Spec)
	if rs.ToBefore {
		spec.Update = toBefore(source)
	}
	if p := rs.Update.Params; len(p) > 0 && !json.Valid(p) {
		return nil, nil, nil, &FieldError{"RollbackSpec.Update.Params", "is no JSON"}
	}
	t = &Task{Head: Head{Kind: Rollback, GroupID: source.GroupID, SourceID: source.ID, Spec: spec, Rollback: *rs}}
	t.Rollback.ClientToken = ""
	t.SpecHash = hashOf([]any{spec.hash(), t.Rollback})
	done, err := r.identify(ctx, t, rs.ClientToken)
	if err != nil {
		return nil, nil, nil, err
	}
	if done != nil {
		return nil, &Task{Head: *done}, nil, nil
	}
	if tail, err = r.rollbackAllowed(ctx, source); err != nil {
		return nil, nil, nil, err
	}
	if err := rs.validate(&source.Spec, &spec); err != nil {
		return nil, nil, nil, err
	}
	if err := r.known("RollbackSpec.Update.Kind", spec.Update.Kind); err != nil {
		return nil, nil, nil, err
	}
	t.Instances, t.Ledger = rollbackRows(source, tail, rs), inheritLedger(tail)
	if t.Ledger.Image == nil {
		t.Ledger.Image = source.Ledger.Image
	}
	for n := range t.Instances {
		if t.Instances[n].Status == InstancePending {
			return t, source, tail, nil
		}
	}
	return nil, nil, nil, refuse(source, ErrNothingToRollBack)
}

// toBefore is the update of a rollback that returns each instance to what it had: the rows carry their own.
func toBefore(source *Task) Update {
	for n := range source.Instances {
		if b := source.Instances[n].Before; b != nil && b.ImageID != "" {
			return Image(b.ImageID)
		}
	}
	return source.Spec.Rollback
}

func refuse(t *Task, why error) error {
	return &CommandError{Command: CommandRollback, TaskID: t.ID, Status: t.Status, Legal: legal(t.Status), Err: why}
}

// rollbackAllowed returns the newest task of the group if source may be rolled back: all tasks that came after
// it have ended without touching an instance.
func (r *Runner) rollbackAllowed(ctx context.Context, source *Task) (tail *Task, err error) {
	if source.Kind == Rollback {
		return nil, refuse(source, ErrIsRollback)
	}
	if err := check(source, CommandRollback, nil); err != nil {
		return nil, err
	}
	if source.Restore.Active() {
		return nil, &GroupBusyError{source.GroupID, source.ID}
	}
	for tail = source; tail.NextID != ""; {
		if tail, err = r.load(ctx, tail.NextID); err != nil {
			return nil, err
		}
		if !tail.Status.Ended() || tail.Restore.Active() {
			return nil, &GroupBusyError{tail.GroupID, tail.ID}
		}
		if tail.executed() {
			return nil, refuse(source, fmt.Errorf("%w: task %s came later", ErrNotLatest, tail.ID))
		}
	}
	return tail, nil
}
