package aliyun

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// How long what was read counts as known.
const (
	justNow = 5 * time.Second  // the state of an instance, for the call that acts on it next; one call at most
	lately  = 10 * time.Minute // an image: it concerns all instances of a batch
	inTask  = time.Hour        // what feeds a group, within an attempt
)

// recent keeps for a moment what was read, so that the call that acts on it right after need not read it again. A call that may
// have been sent before always reads for itself.
type recent struct {
	mu     sync.Mutex
	views  map[string]seenView  // by instance: what a look at its update has shown
	states map[string]seenState // by group and instance: its lifecycle state
	swept  time.Time

	shared  singleflight.Group
	images  map[string]seenImage
	sources map[string]seenSource // by group
}

type seenView struct {
	instance *ecs.Instance
	disk     diskView
	disked   bool
	coming   bool // its new disk exists, and is not attached to it
	unread   bool // the instance was not asked for: its disk shows that it is there, and Stopped
	at       time.Time
}

// replacing reports whether a disk that was read shows that its replacement is open.
func (v seenView) replacing() bool { return v.coming || v.disked && !v.disk.inUse }

type seenState struct {
	state provider.Lifecycle
	at    time.Time
}

type seenImage struct {
	image *provider.Image
	at    time.Time
}

type seenSource struct {
	source source
	at     time.Time
}

func newRecent() *recent {
	return &recent{
		views: make(map[string]seenView), states: make(map[string]seenState),
		images: make(map[string]seenImage), sources: make(map[string]seenSource),
	}
}

// sweep drops what is too old, now and then. r.mu is held.
func (r *recent) sweep(now time.Time) {
	if now.Sub(r.swept) < justNow {
		return
	}
	r.swept = now
	drop(r.views, now, justNow, func(v seenView) time.Time { return v.at })
	drop(r.states, now, justNow, func(v seenState) time.Time { return v.at })
	drop(r.images, now, lately, func(v seenImage) time.Time { return v.at })
	drop(r.sources, now, inTask, func(v seenSource) time.Time { return v.at })
}

func drop[V any](m map[string]V, now time.Time, age time.Duration, at func(V) time.Time) {
	for k, v := range m {
		if now.Sub(at(v)) > age {
			delete(m, k)
		}
	}
}

// fresh reports whether all targets make their call for the first time.
func fresh(targets []provider.Target) bool {
	for _, t := range targets {
		if t.CallID == "" || t.Resent || t.Stale {
			return false
		}
	}
	return true
}

func (r *recent) keepView(id string, v seenView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.at = time.Now()
	r.sweep(v.at)
	r.views[id] = v
}

// takeViews returns what the last look at each of ids has shown, if all of them were looked at just now, and forgets it.
func (r *recent) takeViews(ids []string) (map[string]seenView, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return takeAll(r.views, ids, "", func(v seenView) time.Time { return v.at })
}

func (r *recent) keepStates(groupID string, states map[string]provider.Lifecycle) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.sweep(now)
	for id, s := range states {
		r.states[groupID+"/"+id] = seenState{s, now}
	}
}

// takeStates is takeViews for lifecycle states.
func (r *recent) takeStates(groupID string, ids []string) (map[string]provider.Lifecycle, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := takeAll(r.states, ids, groupID+"/", func(v seenState) time.Time { return v.at })
	states := make(map[string]provider.Lifecycle, len(seen))
	for id, s := range seen {
		states[id] = s.state
	}
	return states, ok
}

func takeAll[V any](m map[string]V, ids []string, prefix string, at func(V) time.Time) (map[string]V, bool) {
	out, all, now := make(map[string]V, len(ids)), true, time.Now()
	for _, id := range ids {
		v, ok := m[prefix+id]
		all = all && ok && now.Sub(at(v)) <= justNow
		out[id] = v
		delete(m, prefix+id)
	}
	return out, all
}

// image returns an image, nil if there is none. One that can be used was perhaps read a while ago; what is wrong with
// another one may have been mended since.
func (p *Provider) image(ctx context.Context, id string) (*provider.Image, error) {
	p.recent.mu.Lock()
	have, ok := p.recent.images[id]
	p.recent.mu.Unlock()
	if ok && time.Since(have.at) <= lately {
		return have.image, nil
	}
	return once(ctx, p, "image "+id, func() (*provider.Image, error) {
		found, err := p.images(ctx, id)
		if err != nil {
			return nil, err
		}
		var img *provider.Image
		if v, ok := found[id]; ok {
			img = &v.Image
		}
		p.recent.mu.Lock()
		defer p.recent.mu.Unlock()
		delete(p.recent.images, id)
		if unusable(img, id) == nil {
			p.recent.images[id] = seenImage{img, time.Now()}
		}
		return img, nil
	})
}

// recentSource is sourceOf, read lately and after a time.
func (p *Provider) recentSource(ctx context.Context, groupID string, after time.Time) (source, error) {
	p.recent.mu.Lock()
	have, ok := p.recent.sources[groupID]
	p.recent.mu.Unlock()
	if ok && time.Since(have.at) <= inTask && !have.at.Before(after) {
		return have.source, nil
	}
	return once(ctx, p, "source "+groupID, func() (source, error) { return p.sourceOf(ctx, groupID) })
}

// keepSource notes what feeds a group, as it was read just now; nil forgets it.
func (r *recent) keepSource(groupID string, s *source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sources, groupID)
	if s != nil {
		r.sources[groupID] = seenSource{*s, time.Now()}
	}
}

// once lets calls that want the same at the same time share one reading. One whose reader was canceled reads for itself.
func once[V any](ctx context.Context, p *Provider, key string, read func() (V, error)) (V, error) {
	v, err, shared := p.recent.shared.Do(key, func() (any, error) { return read() })
	if err != nil && shared && ctx.Err() == nil {
		return read()
	}
	out, _ := v.(V)
	return out, err
}
