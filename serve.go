package rollingupgrade

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Serve drives every runnable task of the store, at most [Config.Tasks] at a time, until ctx is done; then it brings its
// calls in flight to an end, gives its leases back and returns ctx's error. It keeps the limits of pauses, and takes
// tasks over whose Runner has fallen silent. Any number of processes may serve one store.
func (r *Runner) Serve(ctx context.Context) error {
	s := &server{r: r, watches: map[string]*watch{}, again: make(chan struct{}, 1)}
	if n, ok := r.store.(Notifier); ok {
		defer n.Notify(func(string) { s.poke() })()
	}
	defer s.tasks.Wait()
	for {
		next, err := s.round(ctx)
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("serve", "err", err)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return &OpError{"serve", "", context.Cause(ctx)}
		case <-timer.C:
		case <-s.again:
			timer.Stop()
		}
	}
}

// A server is the state of one Serve.
type server struct {
	r       *Runner
	watches map[string]*watch // other Runners' leases
	again   chan struct{}
	tasks   sync.WaitGroup

	mu      sync.Mutex
	running int
}

func (s *server) poke() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// round starts what can be started, and says when to look again at the latest.
func (s *server) round(ctx context.Context) (time.Duration, error) {
	next := s.r.cfg.Poll
	now := time.Now()
	seen := map[string]bool{}
	for h, err := range s.r.store.List(ctx, Filter{Runnable: now}) {
		if err != nil {
			return next, err
		}
		seen[h.ID] = true
		if !s.free() {
			break
		}
		w := s.watches[h.ID]
		if w == nil {
			w = &watch{}
			s.watches[h.ID] = w
		}
		if w.notBefore.After(now) || !s.r.free(w, &h.Lease) || !s.r.claim(h.ID) {
			continue
		}
		w.notBefore = now.Add(s.r.cfg.Poll) // if it comes to nothing
		s.start(ctx, h.ID, h.Lease)
	}
	for id := range s.watches {
		if !seen[id] && s.free() { // a full server has not seen all
			delete(s.watches, id)
		}
	}
	return next, nil
}

func (s *server) free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running < s.r.cfg.Tasks
}

func (s *server) add(n int) {
	s.mu.Lock()
	s.running += n
	s.mu.Unlock()
}

// start drives a claimed task in a goroutine, if its lease is still what was seen.
func (s *server) start(ctx context.Context, taskID string, seen Lease) {
	s.add(1)
	s.tasks.Go(func() {
		defer s.poke()
		defer s.add(-1)
		d, err := s.r.take(ctx, taskID, seen)
		if err != nil {
			s.r.release(taskID)
			if !errors.Is(err, ErrVersionConflict) && ctx.Err() == nil {
				s.r.cfg.Logger.Warn("take task", "task", taskID, "err", err)
			}
			return
		}
		if err := d.drive(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("drive task", "err", err)
		}
	})
}
