package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// crashStore is the store as one process sees it.
type crashStore struct{ p *process }

var errStore = errors.New("store: connection reset")

// write carries out a write of a process, or what strikes it. The invariants look before and after it.
func (s *crashStore) write(key string, f func() error, written func()) error {
	g, began := s.p.g, time.Now()
	if s.p.gate != nil {
		s.p.gate("save " + key)
	}
	s.p.live()
	at, m, hit := g.reach(s.p, boundary{key: "save " + key})
	if hit && at == never {
		if m == lives {
			return errStore
		}
		s.p.die()
	}
	err := g.inv.write(s.p, f, written)
	if err == nil && strings.HasSuffix(key, " driver") {
		g.inv.renew(s.p, began)
	}
	if s.p.slow != nil {
		s.p.slow("save " + key)
	}
	if hit {
		if m == lives {
			return errStore
		}
		s.p.die()
	}
	return err
}

func (s *crashStore) Create(ctx context.Context, c ru.Creation) error {
	return s.write("create "+c.Task.ID, func() error { return s.p.g.store.Create(ctx, c) }, func() {
		s.p.g.inv.created(s.p, c)
	})
}

func (s *crashStore) Save(ctx context.Context, c ru.Change) error {
	who := "command"
	if strings.Contains(c.Head.Nonce, "/") {
		who = "driver"
	}
	return s.write(fmt.Sprintf("%s v%d %s", c.Head.ID, c.Head.Version, who), func() error { return s.p.g.store.Save(ctx, c) }, func() {
		s.p.g.inv.saved(s.p, c)
	})
}

func (s *crashStore) Load(ctx context.Context, id string) (*ru.Task, error) {
	s.p.live()
	return s.p.g.store.Load(ctx, id)
}

func (s *crashStore) Head(ctx context.Context, id string) (*ru.Head, error) {
	s.p.live()
	return s.p.g.store.Head(ctx, id)
}

func (s *crashStore) Events(ctx context.Context, id string, after int64) iter.Seq2[ru.Event, error] {
	s.p.live()
	return s.p.g.store.Events(ctx, id, after)
}

func (s *crashStore) Output(ctx context.Context, id, instanceID string) (provider.Output, error) {
	s.p.live()
	return s.p.g.store.Output(ctx, id, instanceID)
}

func (s *crashStore) List(ctx context.Context, f ru.Filter) iter.Seq2[*ru.Head, error] {
	s.p.live()
	return s.p.g.store.List(ctx, f)
}

// life gives every process a store life of its own: the leases of its predecessors are taken at once.
type life struct{ s *crashStore }

func (l life) Life() string { return "life of " + l.s.p.name }

// notifier tells of saves.
type notifier struct{ s *crashStore }

func (n notifier) Notify(f func(string)) func() {
	return n.s.p.g.store.Notify(func(id string) {
		if !n.s.p.dead.Load() {
			f(id)
		}
	})
}
