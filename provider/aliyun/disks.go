package aliyun

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A diskView is a system disk as the cloud shows it.
type diskView struct {
	provider.Disk
	instanceID, imageID string
	// inUse says that it is in use, not being made or attached.
	inUse bool
}

// diskInUse is the status of a disk that serves its instance (ECS DescribeDisks).
const diskInUse = "In_use"

func asDisk(d *ecs.Disk) diskView {
	return diskView{
		Disk:       provider.Disk{ID: d.DiskId, SizeGiB: d.Size, Encrypted: d.Encrypted, KMSKeyID: d.KMSKeyId, SnapshotPolicyID: d.AutoSnapshotPolicyId},
		instanceID: d.InstanceId, imageID: d.ImageId, inUse: d.Status == diskInUse,
	}
}

// A diskQuery asks for the system disk of an instance.
type diskQuery struct {
	instanceID string
	// known are IDs that the disk may have: asking for disks by ID is cheaper.
	known []string
}

// diskHint is what was learnt about the region: how many pages all its system disks make.
type diskHint struct {
	pages atomic.Int64

	mu   sync.Mutex
	next *diskScan // the reading of all disks that is about to begin
}

// A diskScan is one reading of the disks of the region, for all who asked for it before it began.
type diskScan struct {
	wanted map[string]bool
	done   chan struct{} // closed at the end
	out    map[string]diskView
	err    error
	broken bool // who read was interrupted
}

// gathering is how long a reading of all disks waits for others who want it too: the calls about one batch come at the same time.
const gathering = 20 * time.Millisecond

// few is the number of instances up to which each one's disk is asked for on its own.
const few = 2

// systemDisks reads system disks, by instance. Disks whose IDs may be known are asked for by ID, 100 a call; the others by
// instance, or over the whole region in pages of 500 where that is fewer calls.
func (p *Provider) systemDisks(ctx context.Context, wanted []diskQuery) (map[string]diskView, error) {
	out := make(map[string]diskView, len(wanted))
	var ids []string
	for _, q := range wanted {
		ids = append(ids, q.known...)
	}
	if err := p.disksByID(ctx, ids, out); err != nil {
		return nil, err
	}
	rest := make([]string, 0, len(wanted))
	for _, q := range wanted {
		if _, ok := out[q.instanceID]; !ok {
			rest = append(rest, q.instanceID)
		}
	}
	if n := len(rest); n > few && int(p.disks.pages.Load()) < n {
		if err := p.scanDisks(ctx, rest, out); err != nil {
			return nil, err
		}
		left := rest[:0]
		for _, id := range rest {
			if _, ok := out[id]; !ok {
				left = append(left, id)
			}
		}
		rest = left
	}
	return out, p.disksByInstance(ctx, rest, out)
}

const describeDisks = "DescribeDisks"

func (p *Provider) disksByID(ctx context.Context, ids []string, out map[string]diskView) error {
	n := chunks(len(ids), maxInstances)
	if err := p.ask(ctx, describeDisks, n); err != nil {
		return err
	}
	var mu sync.Mutex
	return each(ctx, n, func(ctx context.Context, i int) error {
		req := ecs.CreateDescribeDisksRequest()
		req.DiskIds, req.DiskType, req.MaxResults = text(part(ids, i, maxInstances)), "system", requests.NewInteger(disksPage)
		return p.readDisks(ctx, req, &mu, out)
	})
}

func (p *Provider) disksByInstance(ctx context.Context, ids []string, out map[string]diskView) error {
	if err := p.ask(ctx, describeDisks, len(ids)); err != nil {
		return err
	}
	var mu sync.Mutex
	return each(ctx, len(ids), func(ctx context.Context, i int) error {
		req := ecs.CreateDescribeDisksRequest()
		req.InstanceId, req.DiskType, req.MaxResults = ids[i], "system", requests.NewInteger(disksPage)
		return p.readDisks(ctx, req, &mu, out)
	})
}

// readDisks reads one page of disks, which holds all that was asked for.
func (p *Provider) readDisks(ctx context.Context, req *ecs.DescribeDisksRequest, mu *sync.Mutex, out map[string]diskView) error {
	resp := ecs.CreateDescribeDisksResponse()
	if err := p.send(ctx, req, resp); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	gather(resp, out)
	return nil
}

// gather takes the disks of a page, by instance, and those of no instance by their own IDs. Of two system disks of one instance, as there may be for a moment during a
// replacement, the one that is not in use counts: the replacement is open.
func gather(resp *ecs.DescribeDisksResponse, out map[string]diskView) {
	for n := range resp.Disks.Disk {
		d := asDisk(&resp.Disks.Disk[n])
		if resp.Disks.Disk[n].Type == "data" {
			continue
		}
		if d.instanceID == "" { // being made, or left over: under its own ID
			out[d.ID] = d
			continue
		}
		if have, twice := out[d.instanceID]; !twice || have.inUse {
			out[d.instanceID] = d
		}
	}
}

// scanDisks reads the system disks of the whole region. Those who ask for it at the same time share one reading: it begins after each of them
// has asked.
func (p *Provider) scanDisks(ctx context.Context, ids []string, out map[string]diskView) error {
	p.disks.mu.Lock()
	s := p.disks.next
	first := s == nil
	if first {
		s = &diskScan{wanted: make(map[string]bool, len(ids)), done: make(chan struct{}), out: make(map[string]diskView, len(ids))}
		p.disks.next = s
	}
	for _, id := range ids {
		s.wanted[id] = true
	}
	p.disks.mu.Unlock()
	if first {
		p.readAllDisks(ctx, s)
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.broken && !first {
		return p.scanDisks(ctx, ids, out)
	}
	for _, id := range ids {
		if d, ok := s.out[id]; ok {
			out[id] = d
		}
	}
	return s.err
}

// readAllDisks lets others join and makes the reading.
func (p *Provider) readAllDisks(ctx context.Context, s *diskScan) {
	s.broken = true
	defer close(s.done)
	gathered := time.NewTimer(gathering)
	defer gathered.Stop()
	select {
	case <-gathered.C:
	case <-ctx.Done():
	}
	p.disks.mu.Lock()
	p.disks.next = nil // from here on nobody joins
	p.disks.mu.Unlock()
	s.err = p.readDiskPages(ctx, s)
	s.broken = over(ctx) != nil
}

// readDiskPages reads pages until everything that is wanted is found, or it has taken as many calls as one for each would.
func (p *Provider) readDiskPages(ctx context.Context, s *diskScan) error {
	page, most := 0, len(s.wanted)
	return byToken(describeDisks, func(token string) (string, error) {
		req := ecs.CreateDescribeDisksRequest()
		req.DiskType, req.MaxResults, req.NextToken = "system", requests.NewInteger(disksPage), token
		resp := ecs.CreateDescribeDisksResponse()
		if err := p.askPage(ctx, describeDisks, token == ""); err != nil {
			return "", err
		}
		if err := p.send(ctx, req, resp); err != nil {
			return "", err
		}
		found := make(map[string]diskView)
		gather(resp, found)
		for id, d := range found {
			if have, twice := s.out[id]; s.wanted[id] && (!twice || have.inUse) {
				s.out[id] = d
			}
		}
		page++
		p.disks.pages.Store(int64(page))
		if resp.NextToken != "" {
			p.disks.pages.Store(int64(page) + 1) // at least
		}
		if len(s.out) == most || page >= most {
			return "", nil
		}
		return resp.NextToken, nil
	})
}
