package rollingupgrade_test

import (
	"errors"
	"fmt"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// play leads one or two tasks, and a rollback where one is drawn, to their end, and puts back what is left over.
func (s *schedule) play() {
	id, err := s.create(s.spec)
	if err != nil {
		return // refused, and said why
	}
	id = s.finish(id)
	if s.chance(30, "rollback at the end") {
		id = s.rollBack(id)
		id = s.finish(id)
	}
	if s.chance(30, "restore at the end") {
		s.restore(id)
	}
	if s.chance(30, "second task") {
		if second, err := s.create(s.drawSpec(fmt.Sprint("second-", s.seed))); err == nil {
			id = s.finish(second)
		}
	}
	s.restore(id)
}

func (s *schedule) create(spec ru.Spec) (id string, err error) {
	err = s.again(func() error {
		return s.o.asClerk(func(r *ru.Runner) error {
			sum, err := r.Create(s.o.ctx, spec)
			id = sum.ID
			return err
		})
	})
	switch {
	case err == nil:
		s.tasks++
	case errors.Is(err, ru.ErrPrecheck), passes(err):
	default:
		s.g.inv.problem("create: %v", err)
	}
	return id, err
}

// again calls f until no injected fault meets it, for some minutes: its checks make many calls.
func (s *schedule) again(f func() error) (err error) {
	for range 30 {
		if err = f(); err == nil || !passes(err) {
			return err
		}
		time.Sleep(10 * time.Second)
	}
	return err
}

// rollBack rolls a task back if that is possible, and returns the newest task.
func (s *schedule) rollBack(id string) string {
	back := id
	err := s.again(func() error {
		return s.o.asClerk(func(r *ru.Runner) error {
			sum, err := r.Rollback(s.o.ctx, id, ru.RollbackSpec{ClientToken: "back-" + id, Scope: ru.RollbackScope([]string{"", "attempted"}[s.draw(2, "scope"+id)])})
			back = sum.ID
			return err
		})
	})
	if err != nil {
		if !errors.Is(err, ru.ErrIllegalCommand) && !errors.Is(err, ru.ErrPrecheck) && !passes(err) {
			s.g.inv.problem("roll back: %v", err)
		}
		return id
	}
	return back
}

// passes reports whether an error comes from an injected fault: the operator would try again later.
func passes(err error) bool {
	var own *fake.APIError
	onWire := new(aliyun.Error)
	return errors.As(err, &own) && own.Message == "injected fault" || errors.Is(err, errLost) ||
		errors.As(err, &onWire) && (provider.Unknown(err) || provider.Retryable(err))
}

// finish leads a task and whatever rolls it back to an end, and returns the last of them.
func (s *schedule) finish(id string) string {
	idle := 0
	for round := range 150 {
		s.o.run(id)
		s.o.racing.Wait()
		t := s.o.get(id)
		switch {
		case t.Restore.Active():
		case t.Status.Ended() && t.NextID != "":
			id = t.NextID
		case t.Status.Ended():
			return id
		case t.Status == ru.StatusFailurePaused:
			s.decide(t, round)
		case t.Status == ru.StatusBatchPaused:
			if t.Pause.Why == ru.PausedByPolicy {
				idle = 0
			}
			idle++
			s.afterPause(t, round, idle)
		}
	}
	s.g.inv.problem("N6: task %s does not end: %s", id, s.o.get(id).Explain().Text(ru.English))
	return id
}

// decide acts at a failure pause. After some rounds nothing is tried again.
func (s *schedule) decide(t *ru.Task, round int) {
	key := fmt.Sprint("decide ", t.ID, round)
	switch {
	case s.chance(8, key+"cancel"):
		s.tolerate(s.o.command(t.ID, cancelAndRestore))
		return
	case s.chance(8, key+"back") && t.Kind == ru.Upgrade:
		s.rollBack(t.ID)
		return
	}
	for n := range t.Instances {
		i := &t.Instances[n]
		if i.Status != ru.InstanceFailed || i.Mark != "" {
			continue
		}
		c := []ru.Command{ru.CommandRetry, ru.CommandRetry, ru.CommandSkip, ru.CommandCancelInstances}[s.draw(4, key+i.ID)]
		if c == ru.CommandRetry && (i.Attempt > 3 || round > 60) {
			c = ru.CommandSkip
		}
		s.tolerate(s.o.command(t.ID, c, i.ID))
	}
}

// afterPause acts at a batch pause. A task that does not get on is canceled.
func (s *schedule) afterPause(t *ru.Task, round, idle int) {
	key := fmt.Sprint("pause ", t.ID, round)
	switch {
	case s.chance(8, key+"cancel") || idle > 6 || round > 100:
		s.tolerate(s.o.command(t.ID, cancelAndRestore))
	case s.chance(8, key+"back") && t.Kind == ru.Upgrade:
		s.rollBack(t.ID)
	default:
		s.tolerate(s.o.command(t.ID, ru.CommandContinue))
	}
}

// tolerate accepts that a command comes too late.
func (s *schedule) tolerate(err error) {
	if err != nil && !errors.Is(err, ru.ErrIllegalCommand) {
		s.g.inv.problem("command: %v", err)
	}
}

// restore puts back what is left over, until nothing is or it stays for a reason.
func (s *schedule) restore(id string) {
	for range 5 {
		t := s.o.get(id)
		if !t.Status.Ended() || len(t.Leftovers()) == 0 {
			return
		}
		if err := s.o.command(id, ru.CommandRestore); err != nil {
			s.g.inv.problem("restore: %v", err)
			return
		}
		s.o.run(id)
		if t = s.o.get(id); t.Restore.Active() {
			s.g.inv.problem("N6: the restore of %s does not end", id)
		}
		if t.Restore.Error == "" {
			for _, l := range t.Leftovers() {
				if l.Kind != ru.LeftoverImage {
					s.g.inv.problem("S25: restored without an error, and %s is left", l)
				}
			}
			return
		}
	}
}

// saved gives random commands right after saves, at most five.
func (s *schedule) saved(t *shownTask) {
	key := fmt.Sprint("racing ", t.head.ID, t.head.Version)
	if len(s.o.triggers) >= 5 || !s.chance(4, key) {
		return
	}
	s.o.triggers = append(s.o.triggers, nil)
	id, version := t.head.ID, t.head.Version
	instance := ""
	if len(t.ids) > 0 {
		instance = t.ids[s.draw(len(t.ids), key+"instance")]
	}
	what := []ru.Command{
		ru.CommandPause, ru.CommandSkip, ru.CommandCancelInstances, ru.CommandRetry, ru.CommandContinue, ru.CommandCancel,
		cancelAndRestore,
	}[s.draw(7, key+"what")]
	delay := time.Duration(1+s.draw(4000, key+"delay")) * time.Millisecond
	s.o.racing.Go(func() {
		time.Sleep(delay + 1)
		var err error
		switch what {
		case ru.CommandSkip, ru.CommandCancelInstances, ru.CommandRetry:
			if instance == "" {
				return
			}
			err = s.o.command(id, what, instance)
		default:
			err = s.o.command(id, what)
		}
		if err == nil {
			s.note("%s %s of %s after v%d", what, instance, id[:9], version)
		}
		if err != nil && !errors.Is(err, ru.ErrIllegalCommand) && !errors.Is(err, ru.ErrUnknownInstance) {
			s.g.inv.problem("%s: %v", what, err)
		}
	})
}
