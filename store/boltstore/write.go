package boltstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// The buckets. A task's rows, events and outputs are buckets of their own within the last three, as are the
// tasks of a group. Values that are JSON end with a checksum.
var (
	bucketHeads   = []byte("heads")   // task ID -> head
	bucketOrder   = []byte("order")   // creation time, task ID -> mark
	bucketGroups  = []byte("groups")  // group ID -> creation time, task ID -> mark
	bucketOpen    = []byte("open")    // creation time, task ID of tasks that can be runnable or hold their group -> mark
	bucketHolders = []byte("holders") // group ID -> task ID
	bucketRows    = []byte("rows")    // task ID -> instance ID -> row
	bucketEvents  = []byte("events")  // task ID -> number -> event
	bucketOutputs = []byte("outputs") // task ID -> instance ID -> output

	buckets = [][]byte{bucketMeta, bucketHeads, bucketOrder, bucketGroups, bucketOpen, bucketHolders, bucketRows, bucketEvents, bucketOutputs}
)

// A write is a Create, a Save or a Delete, encoded and ready to be committed.
type write struct {
	ids   []string // the tasks that it changes
	check func(*bolt.Tx) error
	apply func(*bolt.Tx) error
	done  chan struct{}
	err   error
}

// A change is an encoded [rollingupgrade.Change].
type change struct {
	head    *rollingupgrade.Head // only fields without pointers are used: the caller may change the rest meanwhile
	kept    *rollingupgrade.Head // the head that it replaces, if any
	json    []byte
	open    bool // it belongs to bucketOpen
	rows    [][2][]byte
	events  [][2][]byte
	outputs [][2][]byte
}

func encode(h *rollingupgrade.Head, rows []rollingupgrade.Instance, events []rollingupgrade.Event, outputs map[string]provider.Output) (*change, error) {
	copied := *h
	copied.Restore = nil
	c := &change{head: &copied, open: isOpen(h)}
	var errs []error
	put := func(to *[][2][]byte, key []byte, v any) {
		b, err := seal(key, v)
		errs = append(errs, err)
		*to = append(*to, [2][]byte{key, b})
	}
	var head [][2][]byte
	put(&head, []byte(h.ID), h)
	c.json = head[0][1]
	for n := range rows {
		put(&c.rows, []byte(rows[n].ID), &rows[n])
	}
	for n := range events {
		put(&c.events, number(events[n].Seq), &events[n])
	}
	for id, o := range outputs {
		put(&c.outputs, []byte(id), o)
	}
	return c, errors.Join(errs...)
}

// isOpen reports whether a task belongs to bucketOpen.
func isOpen(h *rollingupgrade.Head) bool {
	return h.HoldsGroup || !h.Status.Ended() || h.Restore.Active()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a value under its key.
func sum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// seal encodes v with its checksum behind it.
func seal(key []byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint32(b, sum(key, b)), nil
}

// unseal returns the JSON of a value, or ErrCorrupt.
func unseal(key, sealed []byte) ([]byte, error) {
	n := len(sealed) - 4
	if n < 0 || binary.BigEndian.Uint32(sealed[n:]) != sum(key, sealed[:n]) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrCorrupt)
	}
	return sealed[:n], nil
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func encodeChange(c rollingupgrade.Change) (*write, error) {
	e, err := encode(c.Head, c.Rows, c.Events, c.Outputs)
	if err != nil {
		return nil, err
	}
	w := &write{ids: []string{c.Head.ID}, apply: e.apply}
	w.check = func(tx *bolt.Tx) error {
		if err := e.fits(tx); err != nil {
			return err
		}
		return e.mayHold(tx, "")
	}
	return w, nil
}

func encodeCreation(c rollingupgrade.Creation) (*write, error) {
	e, err := encode(&c.Task.Head, c.Task.Instances, c.Events, nil)
	if err != nil {
		return nil, err
	}
	w := &write{ids: []string{c.Task.ID}, apply: e.apply}
	if c.Prior == nil {
		w.check = func(tx *bolt.Tx) error {
			if err := e.isNew(tx); err != nil {
				return err
			}
			return e.mayHold(tx, "")
		}
		return w, nil
	}
	p, err := encode(c.Prior.Head, c.Prior.Rows, c.Prior.Events, c.Prior.Outputs)
	if err != nil {
		return nil, err
	}
	w.ids = append(w.ids, c.Prior.Head.ID)
	w.check = func(tx *bolt.Tx) error {
		if err := e.isNew(tx); err != nil {
			return err
		}
		if err := p.fits(tx); err != nil {
			return err
		}
		if err := p.mayHold(tx, ""); err != nil {
			return err
		}
		left := p.head.ID
		if p.head.HoldsGroup {
			left = ""
			if e.head.HoldsGroup && e.head.GroupID == p.head.GroupID {
				return &rollingupgrade.GroupBusyError{GroupID: p.head.GroupID, HolderID: p.head.ID}
			}
		}
		return e.mayHold(tx, left)
	}
	w.apply = func(tx *bolt.Tx) error {
		if err := p.apply(tx); err != nil {
			return err
		}
		return e.apply(tx)
	}
	return w, nil
}

// isNew refuses a task whose ID is taken.
func (c *change) isNew(tx *bolt.Tx) error {
	if tx.Bucket(bucketHeads).Get([]byte(c.head.ID)) != nil {
		return fmt.Errorf("create task %s: %w", c.head.ID, rollingupgrade.ErrTaskExists)
	}
	return c.contiguous(0)
}

// fits refuses a change of another version than the kept one.
func (c *change) fits(tx *bolt.Tx) error {
	kept, err := head(tx, c.head.ID)
	if err != nil {
		return err
	}
	if c.kept = kept; kept.Version != c.head.Version-1 {
		return fmt.Errorf("save task %s: %w", c.head.ID, rollingupgrade.ErrVersionConflict)
	}
	var last int64
	if b := tx.Bucket(bucketEvents).Bucket([]byte(c.head.ID)); b != nil {
		if last, err = lastNumber(b); err != nil {
			return err
		}
	}
	return c.contiguous(last)
}

// contiguous refuses events that do not follow the kept ones.
func (c *change) contiguous(last int64) error {
	for n, e := range c.events {
		if seq := int64(binary.BigEndian.Uint64(e[0])); seq != last+int64(n)+1 {
			return fmt.Errorf("task %s: event %d does not follow event %d: %w", c.head.ID, seq, last+int64(n), rollingupgrade.ErrVersionConflict)
		}
	}
	return nil
}

// mayHold refuses a second holder of a group. The task left gives the group up in the same transaction.
func (c *change) mayHold(tx *bolt.Tx, left string) error {
	if !c.head.HoldsGroup {
		return nil
	}
	holder := string(tx.Bucket(bucketHolders).Get([]byte(c.head.GroupID)))
	if holder == "" || holder == c.head.ID || holder == left {
		return nil
	}
	return &rollingupgrade.GroupBusyError{GroupID: c.head.GroupID, HolderID: holder}
}

// apply writes the change.
func (c *change) apply(tx *bolt.Tx) error {
	id, h := []byte(c.head.ID), c.head
	if err := tx.Bucket(bucketHeads).Put(id, c.json); err != nil {
		return err
	}
	holders := tx.Bucket(bucketHolders)
	switch holder := string(holders.Get([]byte(h.GroupID))); {
	case h.HoldsGroup && holder != h.ID:
		if err := holders.Put([]byte(h.GroupID), id); err != nil {
			return err
		}
	case !h.HoldsGroup && holder == h.ID && holder != "":
		if err := holders.Delete([]byte(h.GroupID)); err != nil {
			return err
		}
	}
	if err := c.index(tx); err != nil {
		return err
	}
	for _, part := range []struct {
		bucket []byte
		pairs  [][2][]byte
	}{{bucketRows, c.rows}, {bucketEvents, c.events}, {bucketOutputs, c.outputs}} {
		if len(part.pairs) == 0 {
			continue
		}
		b, err := tx.Bucket(part.bucket).CreateBucketIfNotExists(id)
		if err != nil {
			return err
		}
		for _, p := range part.pairs {
			if err := b.Put(p[0], p[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// index keeps what listings need.
func (c *change) index(tx *bolt.Tx) error {
	key := orderKey(c.head)
	if c.kept != nil {
		if old := orderKey(c.kept); !bytes.Equal(old, key) || c.kept.GroupID != c.head.GroupID { // no Runner does that
			if err := unindex(tx, c.kept, old); err != nil {
				return err
			}
		}
	}
	m := mark(c.head)
	if err := put(tx.Bucket(bucketOrder), key, m); err != nil {
		return err
	}
	group, err := tx.Bucket(bucketGroups).CreateBucketIfNotExists([]byte(c.head.GroupID))
	if err != nil {
		return err
	}
	if err := put(group, key, m); err != nil {
		return err
	}
	if open := tx.Bucket(bucketOpen); c.open {
		return put(open, key, m)
	} else if open.Get(key) != nil {
		return open.Delete(key)
	}
	return nil
}

// put adds a key to an index. An entry that is there as it shall be costs no write.
func put(index *bolt.Bucket, key, mark []byte) error {
	if bytes.Equal(index.Get(key), mark) {
		return nil
	}
	return index.Put(key, mark)
}

func unindex(tx *bolt.Tx, h *rollingupgrade.Head, key []byte) error {
	errs := []error{tx.Bucket(bucketOrder).Delete(key), tx.Bucket(bucketOpen).Delete(key)}
	groups, id := tx.Bucket(bucketGroups), []byte(h.GroupID)
	if group := groups.Bucket(id); group != nil {
		errs = append(errs, group.Delete(key))
		if k, _ := group.Cursor().First(); k == nil {
			errs = append(errs, groups.DeleteBucket(id))
		}
	}
	return errors.Join(errs...)
}

// A mark is what an index says of a task, so that a list need not read the heads of those that do not fit: its kind and
// its status. Format 1 had a mark that says nothing; it stays until the task is saved again.
func mark(h *rollingupgrade.Head) []byte {
	return []byte(string(h.Kind) + "\x00" + string(h.Status))
}

var oldMark = []byte{1}

// fits reports whether a task with that mark can be one that f selects.
func fits(f *rollingupgrade.Filter, mark []byte) bool {
	kind, status, ok := strings.Cut(string(mark), "\x00")
	if !ok {
		return true
	}
	return (f.Kind == "" || string(f.Kind) == kind) && (len(f.Status) == 0 || slices.Contains(f.Status, rollingupgrade.Status(status)))
}

// orderKey sorts tasks by creation, then ID.
func orderKey(h *rollingupgrade.Head) []byte { return placeKey(h.Position()) }

func placeKey(p rollingupgrade.Position) []byte { return append(timeKey(p.CreatedAt), p.ID...) }

// timeKey is where the tasks begin that were created at that time or later.
func timeKey(t time.Time) []byte {
	k := binary.BigEndian.AppendUint64(nil, uint64(t.Unix())^1<<63)
	return binary.BigEndian.AppendUint32(k, uint32(t.Nanosecond()))
}

// orderPrefix is how many bytes of an order key come before the task ID.
const orderPrefix = 12
