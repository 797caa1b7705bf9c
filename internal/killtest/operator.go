package killtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// An operator gives the commands of all scenes, each to any worker that answers, and again under the same request ID if none did.
type operator struct {
	crew *crew

	mu       sync.Mutex
	shown    map[string]ru.Summary
	given    int // commands that were carried out
	repeated int // sendings beyond the first one of each
	restores int
	canceled int
	tasks    map[string]bool // that were created
	refused  map[string]int
}

// errNotNow says that the task has moved on.
var errNotNow = errors.New("not legal now")

const (
	answerLimit = 2 * time.Second
	glance      = 200 * time.Millisecond
)

// watch keeps what the store shows of all tasks, until ctx is done.
func (o *operator) watch(ctx context.Context) {
	for ctx.Err() == nil {
		var all []ru.Summary
		if p := o.crew.any(); p != nil && ask(ctx, answerLimit, p.address, "/list", struct{}{}, &all) == nil {
			shown := make(map[string]ru.Summary, len(all))
			for _, s := range all {
				shown[s.ID] = s
			}
			o.mu.Lock()
			o.shown = shown
			o.mu.Unlock()
		}
		pause(ctx, glance)
	}
}

func (o *operator) look(id string) ru.Summary {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.shown[id]
}

// task reads a task.
func (o *operator) task(ctx context.Context, id string) (*ru.Task, error) {
	for ctx.Err() == nil {
		t := &ru.Task{}
		if p := o.crew.any(); p != nil && ask(ctx, answerLimit, p.address, "/task", id, t) == nil {
			return t, nil
		}
		pause(ctx, glance)
	}
	return nil, ctx.Err()
}

// give gives a command until somebody has answered it. It returns errNotNow if it is not legal any more.
func (o *operator) give(ctx context.Context, c order) (string, error) {
	last := ""
	for try := 0; ctx.Err() == nil; try++ {
		p := o.crew.any()
		var a reply
		if p == nil || ask(ctx, answerLimit, p.address, "/order", c, &a) != nil {
			pause(ctx, glance)
			continue
		}
		o.mu.Lock()
		if try > 0 {
			o.repeated++
		}
		if a.Error == "" {
			o.given++
			if a.Task != "" {
				o.tasks[a.Task] = true
			}
		}
		o.mu.Unlock()
		switch {
		case a.Error == "":
			return a.Task, nil
		case a.Illegal:
			return "", fmt.Errorf("%w: %s", errNotNow, a.Error)
		case a.Final:
			return "", fmt.Errorf("%s: %s", c.Verb, a.Error)
		case a.Error != last:
			last = a.Error
			o.mu.Lock()
			o.refused[string(c.Verb)+": "+a.Error]++
			o.mu.Unlock()
		}
		pause(ctx, glance)
	}
	return "", fmt.Errorf("%s: %w, last: %s", c.Verb, context.Cause(ctx), last)
}

// try gives a command that may come too late.
func (o *operator) try(ctx context.Context, c order) error {
	if _, err := o.give(ctx, c); err != nil && !errors.Is(err, errNotNow) {
		return err
	}
	return nil
}

// play plays a scene to its end.
func (o *operator) play(ctx context.Context, c *scene, chance *rand.Rand) error {
	pause(ctx, time.Duration(chance.Int64N(int64(time.Second))))
	id, err := o.give(ctx, order{Verb: commandCreate, Spec: c.spec})
	if err != nil {
		return err
	}
	next, err := o.follow(ctx, id, c, chance)
	if err != nil {
		return err
	}
	switch c.ending {
	case thenRollBack, cancelRollBack:
		next, err = o.give(ctx, o.rollback(id))
		if err != nil && next == "" { // nothing was completed before the cancel
			return o.cleanUp(ctx, id)
		}
	case cancelRestore:
		err = o.cleanUp(ctx, id)
	}
	if err == nil && next != id {
		if id = next; id != "" {
			_, err = o.follow(ctx, id, &scene{}, chance)
		}
	}
	if err != nil {
		return err
	}
	return o.cleanUp(ctx, id)
}

func (o *operator) rollback(id string) order {
	return order{Verb: ru.CommandRollback, Task: id, Rollback: ru.RollbackSpec{ClientToken: "down-" + id}}
}

// follow drives a task as an operator does, until it has ended and restores nothing. It returns the newest task: the rollback, if that ended it.
func (o *operator) follow(ctx context.Context, id string, c *scene, chance *rand.Rand) (string, error) {
	cancelAt := time.Now().Add(c.cancelAfter)
	cancels := c.ending == cancelRestore || c.ending == cancelAndRestore || c.ending == cancelRollBack
	for ctx.Err() == nil {
		s := o.look(id)
		var err error
		switch {
		case s.ID == "":
		case s.Status.Ended() && !s.Restoring:
			return id, nil
		case s.Status.Ended():
		case cancels && time.Now().After(cancelAt):
			err = o.try(ctx, order{Verb: ru.CommandCancel, Task: id, Restore: c.ending == cancelAndRestore, Request: "cancel"})
			if cancels = err != nil; err == nil {
				o.mu.Lock()
				o.canceled++
				o.mu.Unlock()
			}
		case s.Status == ru.StatusBatchPaused && s.Pause != nil:
			if c.ending == rollBackPaused {
				next, err := o.give(ctx, o.rollback(id))
				if err == nil || !errors.Is(err, errNotNow) {
					return next, err
				}
				continue
			}
			err = o.try(ctx, order{Verb: ru.CommandContinue, Task: id, Request: ru.RequestID("go on " + s.Pause.Since.Format(time.RFC3339Nano))})
		case s.Status == ru.StatusFailurePaused:
			err = o.decide(ctx, id, chance)
		}
		if err != nil {
			return "", err
		}
		pause(ctx, glance)
	}
	return "", context.Cause(ctx)
}

// decide decides about failed instances.
func (o *operator) decide(ctx context.Context, id string, chance *rand.Rand) error {
	t, err := o.task(ctx, id)
	if err != nil {
		return err
	}
	for n := range t.Instances {
		i := &t.Instances[n]
		if i.Status != ru.InstanceFailed || i.Mark != "" {
			continue
		}
		verb := ru.CommandRetry
		switch draw := chance.IntN(10); {
		case draw == 0:
			verb = ru.CommandSkip
		case draw == 1 || i.Attempt > 3:
			verb = ru.CommandCancelInstances
		}
		err := o.try(ctx, order{Verb: verb, Task: id, IDs: []string{i.ID}, Request: ru.RequestID(fmt.Sprint(verb, " ", i.ID, " ", i.Attempt))})
		if err != nil {
			return err
		}
	}
	return nil
}

// cleanUp restores what the last task of a scene has left, up to three times.
func (o *operator) cleanUp(ctx context.Context, id string) error {
	for try := range 3 {
		t, err := o.task(ctx, id)
		if err != nil {
			return err
		}
		left := 0
		for _, l := range t.Leftovers() {
			if l.Kind != ru.LeftoverImage {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		o.mu.Lock()
		o.restores++
		o.mu.Unlock()
		if err := o.try(ctx, order{Verb: ru.CommandRestore, Task: id, Request: ru.RequestID(fmt.Sprint("restore ", try))}); err != nil {
			return err
		}
		for ctx.Err() == nil {
			if t, err = o.task(ctx, id); err != nil || !t.Restore.Active() {
				break
			}
			pause(ctx, glance)
		}
	}
	return ctx.Err()
}
