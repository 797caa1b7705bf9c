package killtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// An entry is a line of a worker's journal.
type entry struct {
	Kind    string // "name": before a save that names a side effect; "save": after one that succeeded
	At      int64
	Process string `json:",omitempty"`
	Task    string
	Group   string `json:",omitempty"`

	Call     string `json:",omitempty"`
	Op       string `json:",omitempty"`
	Instance string `json:",omitempty"`
	Attempt  int    `json:",omitempty"`
	Batch    int    `json:",omitempty"`
	Ended    bool   `json:",omitempty"` // the task had ended: a restore

	Version  int64     `json:",omitempty"`
	Fence    int64     `json:",omitempty"`
	Owner    string    `json:",omitempty"` // who saved as a driver; empty for a command
	Took     bool      `json:",omitempty"` // the first save of a driver
	Gave     bool      `json:",omitempty"` // the last one, which gives the lease back
	SavedAt  time.Time `json:",omitzero"`
	Began    int64     `json:",omitempty"` // when the save began; a process may be frozen between that and At
	Runnable bool      `json:",omitempty"` // there was something left to do
}

// A journal is a store that writes down what is saved, so that the dead can testify. Each line reaches the system in one write.
type journal struct {
	ru.Store
	process string
	lease   time.Duration
	file    *os.File

	mu      sync.Mutex
	named   map[string]bool      // lines that are written
	calls   map[string]string    // task by side effect, as far as it is in the record
	ofGroup map[string]string    // the group-level side effect in the record, by group
	leases  map[string]time.Time // when the last renewal began, by task
	unsure  map[string]func()    // what to note if a save turns out to have succeeded, by task and nonce
}

func newJournal(s ru.Store, set *settings) (*journal, error) {
	f, err := os.OpenFile(set.Journal, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return &journal{
		Store: s, process: set.Name, lease: set.Timing.Lease, file: f, named: map[string]bool{}, calls: map[string]string{},
		ofGroup: map[string]string{}, leases: map[string]time.Time{}, unsure: map[string]func(){},
	}, err
}

// store returns the journal with the optional abilities of what it wraps.
func (j *journal) store() ru.Store {
	notifier, notifies := j.Store.(ru.Notifier)
	exclusive, excludes := j.Store.(ru.ExclusiveStore)
	switch {
	case notifies && excludes:
		return struct {
			*journal
			ru.Notifier
			lifeOf
		}{j, notifier, lifeOf{exclusive}}
	case notifies:
		return struct {
			*journal
			ru.Notifier
		}{j, notifier}
	}
	return j
}

type lifeOf struct{ of ru.ExclusiveStore }

func (l lifeOf) Life() string { return l.of.Life() }

func (j *journal) write(entries ...entry) {
	var b []byte
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		b = append(append(b, line...), '\n')
	}
	if len(b) > 0 {
		_, _ = j.file.Write(b)
	}
}

// names writes down the side effects that a change names for the first time.
func (j *journal) names(h *ru.Head, rows []ru.Instance) {
	var lines []entry
	add := func(call *ru.Call, e entry) {
		if key := call.ID + e.Instance; !j.named[key] {
			j.named[key] = true
			e.Kind, e.At, e.Task, e.Group, e.Call, e.Op, e.Ended = "name", time.Now().UnixNano(), h.ID, h.GroupID, call.ID, call.Op, h.Status.Ended()
			lines = append(lines, e)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for n := range rows {
		if r := &rows[n]; r.Call != nil {
			add(r.Call, entry{Instance: r.ID, Attempt: r.Attempt, Batch: r.Batch})
		}
	}
	if h.Ledger.Call != nil {
		add(h.Ledger.Call, entry{})
	}
	j.write(lines...)
}

// kept notes that the side effects of a change are in the record.
func (j *journal) kept(h *ru.Head, rows []ru.Instance) {
	for n := range rows {
		if r := &rows[n]; r.Call != nil {
			j.calls[r.Call.ID] = h.ID
		}
	}
	delete(j.ofGroup, h.GroupID)
	if c := h.Ledger.Call; c != nil {
		j.calls[c.ID] = h.ID
		j.ofGroup[h.GroupID] = c.ID
	}
}

// Save implements [ru.Store].
func (j *journal) Save(ctx context.Context, c ru.Change) error {
	began := time.Now()
	j.names(c.Head, c.Rows)
	head, rows := *c.Head, append([]ru.Instance(nil), c.Rows...)
	done := func() { j.saved(&head, rows, began) }
	err := j.Store.Save(ctx, c)
	j.mu.Lock()
	switch {
	case err == nil: // an earlier try of it was not kept, then
		delete(j.unsure, head.ID+head.Nonce)
	case errors.Is(err, ru.ErrVersionConflict), errors.Is(err, ru.ErrTaskNotFound), errors.Is(err, ru.ErrGroupBusy):
	default:
		j.unsure[head.ID+head.Nonce] = done
	}
	j.mu.Unlock()
	if err == nil {
		done()
	}
	return err
}

func (j *journal) saved(h *ru.Head, rows []ru.Instance, began time.Time) {
	owner, rest, driver := strings.Cut(h.Nonce, "/")
	e := entry{
		Kind: "save", At: time.Now().UnixNano(), Task: h.ID, Group: h.GroupID, Version: h.Version, Fence: h.Lease.Fence, SavedAt: h.SavedAt,
		Runnable: h.Runnable(time.Now()), Began: began.UnixNano(),
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if driver {
		e.Owner = owner
		e.Took = strings.HasSuffix("/"+rest, "/1")
		e.Gave = h.Lease.Owner == ""
		j.leases[h.ID] = began
	}
	j.kept(h, rows)
	j.write(e)
}

// Create implements [ru.Store].
func (j *journal) Create(ctx context.Context, c ru.Creation) error {
	var prior *ru.Head
	if c.Prior != nil {
		h := *c.Prior.Head
		prior = &h
	}
	err := j.Store.Create(ctx, c)
	if err == nil && prior != nil {
		j.saved(prior, nil, time.Now())
	}
	return err
}

// Head implements [ru.Store]. The Runner calls it after a save with an unknown outcome.
func (j *journal) Head(ctx context.Context, id string) (*ru.Head, error) {
	h, err := j.Store.Head(ctx, id)
	if err == nil {
		j.settle(h)
	}
	return h, err
}

// Load implements [ru.Store].
func (j *journal) Load(ctx context.Context, id string) (*ru.Task, error) {
	t, err := j.Store.Load(ctx, id)
	if err == nil {
		j.settle(&t.Head)
		j.mu.Lock()
		j.kept(&t.Head, t.Instances)
		j.mu.Unlock()
	}
	return t, err
}

func (j *journal) settle(h *ru.Head) {
	j.mu.Lock()
	done := j.unsure[h.ID+h.Nonce]
	delete(j.unsure, h.ID+h.Nonce)
	j.mu.Unlock()
	if done != nil {
		done()
	}
}

// about says what is known of a side effect: its task, and when the lease of that ends.
func (j *journal) about(call string) (task string, end int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	task = j.calls[call]
	if at, ok := j.leases[task]; ok {
		end = at.Add(j.lease).UnixNano()
	}
	return task, end
}

// groupCall is the group-level side effect that the record of a group's task names.
func (j *journal) groupCall(group string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ofGroup[group]
}

// readJournals reads the journals of a folder. The last line of one may be cut.
func readJournals(dir string) ([]entry, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, name := range files {
		f, err := os.Open(name) //nolint:gosec // the rig's own
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e entry
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				e.Process = strings.TrimSuffix(filepath.Base(name), ".journal")
				all = append(all, e)
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}
