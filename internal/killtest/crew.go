package killtest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A crew is the workers of a round: each slot is filled again when its worker has died.
type crew struct {
	base settings
	dir  string
	log  io.Writer

	mu       sync.Mutex
	slots    []*process // nil while nobody is there
	frozen   map[*process]bool
	expected map[*process]bool // to end
	lives    []int             // by slot
	problems []string
	outages  []outage
	closed   bool
	restarts sync.WaitGroup
}

// An outage is what was done to a process.
type outage struct {
	kind     string // "kill", "short freeze", "long freeze", "graceful end"
	process  string
	from, to int64    // of a freeze
	during   []string // what was in flight at the cloud
	aimed    string   // the action that was waited for
}

// fill starts a worker in each slot.
func (c *crew) fill(ctx context.Context, n int) error {
	c.slots, c.lives = make([]*process, n), make([]int, n)
	c.frozen, c.expected = map[*process]bool{}, map[*process]bool{}
	for slot := range n {
		if err := c.start(ctx, slot); err != nil {
			return err
		}
	}
	return nil
}

func (c *crew) start(ctx context.Context, slot int) error {
	c.mu.Lock()
	c.lives[slot]++
	s := c.base
	s.Role, s.Name = "worker", fmt.Sprintf("w%d.%d", slot+1, c.lives[slot])
	c.mu.Unlock()
	s.Journal = filepath.Join(c.dir, s.Name+".journal")
	p, err := startProcess(ctx, s, c.log)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		p.end()
		return nil
	}
	c.slots[slot] = p
	c.restarts.Go(func() { c.replace(ctx, slot, p) })
	return nil
}

// replace waits for the end of a worker and starts the next one.
func (c *crew) replace(ctx context.Context, slot int, p *process) {
	<-p.ended
	c.mu.Lock()
	c.slots[slot] = nil
	if !c.expected[p] && ctx.Err() == nil {
		c.problems = append(c.problems, fmt.Sprintf("%s ended by itself: %v", p.name, p.err))
	}
	closed := c.closed
	c.mu.Unlock()
	if closed || ctx.Err() != nil {
		return
	}
	if err := c.start(ctx, slot); err != nil && ctx.Err() == nil {
		c.mu.Lock()
		c.problems = append(c.problems, err.Error())
		c.mu.Unlock()
	}
}

// any returns some worker; frozen ones too, as an operator would not know.
func (c *crew) any() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(c.slots), func(p *process) bool { return p == nil })
	if len(all) == 0 {
		return nil
	}
	return all[rand.IntN(len(all))] //nolint:gosec // a test's draw
}

// victim returns a worker that is not frozen: the one of that name, or the n-th if name is empty.
func (c *crew) victim(name string, n int) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(c.slots), func(p *process) bool {
		return p == nil || c.frozen[p] || c.expected[p] || name != "" && p.name != name
	})
	if len(all) == 0 {
		return nil
	}
	return all[n%len(all)]
}

// await waits for the worker of a slot; nil if ctx is done before there is one.
func (c *crew) await(ctx context.Context, slot int) *process {
	for ctx.Err() == nil {
		c.mu.Lock()
		p := c.slots[slot]
		c.mu.Unlock()
		if p != nil {
			return p
		}
		pause(ctx, 20*time.Millisecond)
	}
	return nil
}

// kill kills a worker, and returns when.
func (c *crew) kill(p *process) int64 {
	c.mu.Lock()
	c.expected[p] = true
	c.mu.Unlock()
	at := time.Now().UnixNano()
	_ = p.cmd.Process.Kill()
	return at
}

// finish asks a worker to end, and notes if it does not do so properly.
func (c *crew) finish(p *process) {
	c.mu.Lock()
	killed := c.expected[p]
	c.expected[p] = true
	c.mu.Unlock()
	if killed {
		<-p.ended
		return
	}
	_ = term(p.cmd.Process)
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = dump(p.cmd.Process)
		pause(context.Background(), 2*time.Second) //nolint:forbidigo // for what it prints
		p.end()
	}
	if p.err != nil {
		c.mu.Lock()
		c.problems = append(c.problems, fmt.Sprintf("%s did not end properly when it was asked to: %v", p.name, p.err))
		c.mu.Unlock()
	}
}

// freeze stops a worker for d.
func (c *crew) freeze(ctx context.Context, p *process, d time.Duration) (from, to int64) {
	c.mu.Lock()
	c.frozen[p] = true
	c.mu.Unlock()
	from = time.Now().UnixNano()
	_ = freeze(p.cmd.Process)
	pause(ctx, d)
	to = time.Now().UnixNano()
	_ = thaw(p.cmd.Process)
	c.mu.Lock()
	delete(c.frozen, p)
	c.mu.Unlock()
	return from, to
}

func (c *crew) note(o outage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outages = append(c.outages, o)
}

// close ends all workers, gracefully if they are to.
func (c *crew) close(gracefully bool) {
	c.mu.Lock()
	c.closed = true
	all := slices.Clone(c.slots)
	c.mu.Unlock()
	var ends sync.WaitGroup
	for _, p := range all {
		if p == nil {
			continue
		}
		ends.Go(func() {
			if gracefully {
				c.finish(p)
			} else {
				c.kill(p)
			}
		})
	}
	ends.Wait()
	c.restarts.Wait()
}
