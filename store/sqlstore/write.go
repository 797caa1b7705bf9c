package sqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/store/internal/record"
)

// A write is a Create, a Save or a Delete, encoded.
type write struct {
	makes   *change   // the task that Create adds
	saves   *change   // what Save replaces, or the Prior of a Create; nil if it has none
	deletes *deletion // what Delete removes
}

// A deletion is a task that is removed if it has that version.
type deletion struct {
	id      string
	version int64
}

// A change is an encoded [rollingupgrade.Change].
type change struct {
	id, group   string
	holds       bool
	kind        string
	status      string
	version     int64
	position    string
	open        int
	runnable    any // nanoseconds or nil
	record      string
	first, last int64 // numbers of the events
	rows, outs  []pair
	events      []pair
}

// A pair is an ID or a number and the JSON kept under it.
type pair struct {
	key    any
	record string
}

// text is the key as text.
func (p pair) text() string {
	if n, ok := p.key.(int64); ok {
		return strconv.FormatInt(n, 10)
	}
	return p.key.(string) //nolint:forcetypeassert // encode makes no others
}

func encodeChange(c rollingupgrade.Change) (*change, error) {
	return encode(c.Head, c.Rows, c.Events, c.Outputs)
}

func encodeCreation(c rollingupgrade.Creation) (*write, error) {
	w := &write{}
	var err error
	if len(key(c.Task.ID)) > maxKey {
		return nil, fmt.Errorf("task %s is longer than %d bytes", record.Clip(c.Task.ID), maxKey)
	}
	if w.makes, err = encode(&c.Task.Head, c.Task.Instances, c.Events, nil); err == nil && c.Prior != nil {
		w.saves, err = encodeChange(*c.Prior)
	}
	return w, err
}

func encode(h *rollingupgrade.Head, rows []rollingupgrade.Instance, events []rollingupgrade.Event, outputs map[string]provider.Output) (*change, error) {
	c := &change{id: h.ID, group: h.GroupID, holds: h.HoldsGroup, kind: key(string(h.Kind)), status: string(h.Status), version: h.Version, position: position(h.Position()), runnable: runnable(h)}
	if h.HoldsGroup || !h.Status.Ended() || h.Restore.Active() {
		c.open = 1
	}
	var errs []error
	enc := func(v any) string {
		b, err := json.Marshal(v)
		errs = append(errs, err)
		return string(b)
	}
	fits := func(what, id string, limit int) {
		if len(key(id)) > limit {
			errs = append(errs, fmt.Errorf("%s %s is longer than %d bytes", what, record.Clip(id), limit))
		}
	}
	fits("group", h.GroupID, maxKey)
	fits("kind", c.kind, 64)
	fits("status", c.status, 64)
	c.record = enc(h)
	place := make(map[string]int, len(rows))
	for n := range rows {
		id := rows[n].ID
		p := pair{key(id), enc(&rows[n])}
		if k, twice := place[id]; twice { // one statement must not write a row twice
			c.rows[k] = p
			continue
		}
		fits("instance", id, maxKey)
		place[id] = len(c.rows)
		c.rows = append(c.rows, p)
	}
	for n := range events {
		if n > 0 && events[n].Seq != events[n-1].Seq+1 {
			return nil, fmt.Errorf("event %d does not follow event %d: %w", events[n].Seq, events[n-1].Seq, rollingupgrade.ErrVersionConflict)
		}
		c.events = append(c.events, pair{events[n].Seq, enc(&events[n])})
		c.first, c.last = events[0].Seq, events[n].Seq
	}
	for id, o := range outputs {
		fits("instance", id, maxKey)
		c.outs = append(c.outs, pair{key(id), enc(o)})
	}
	return c, errors.Join(errs...)
}

// position sorts tasks by creation, then ID.
func position(p rollingupgrade.Position) string { return moment(p.CreatedAt) + key(p.ID) }

// moment is the position at which the tasks begin that were created at that time or later.
func moment(t time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.Unix())^1<<63)
	b = binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
	return hex.EncodeToString(b)
}

// runnable is from when on there is something to do for the task, as its column has it.
func runnable(h *rollingupgrade.Head) any {
	switch {
	case !h.Runnable(time.Unix(math.MaxInt32*1000, 0)):
		return nil
	case h.Runnable(time.Time{}):
		return int64(0)
	}
	return nanos(h.WakeAt)
}

// nanos is a time in nanoseconds since 1970, at the ends of the range for one outside.
func nanos(t time.Time) int64 {
	switch year := t.Year(); {
	case year < 1700:
		return math.MinInt64
	case year > 2200:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// tries is how often a transaction is begun that the database has ended by itself, as it does with deadlocks.
const tries = 4

// write carries out a write. Why the database refused one is found by looking, not by its error codes, which differ from driver to driver.
func (s *Store) write(ctx context.Context, w *write) error {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	return late(ctx, s.tryWrite(ctx, w))
}

func (s *Store) tryWrite(ctx context.Context, w *write) error {
	for try := 1; ; try++ {
		err := s.send(ctx, w)
		if err == nil || errors.Is(err, ErrUnknownOutcome) || ctx.Err() != nil {
			return err
		}
		why, lerr := s.why(ctx, w)
		switch {
		case why != nil:
			return why
		case lerr != nil:
			return err // the database cannot be asked; nothing was changed
		case try == tries:
			return err
		}
		if serr := sleep(ctx, time.Duration(try*try)*5*time.Millisecond); serr != nil {
			return err
		}
	}
}

// send carries out a write once.
func (s *Store) send(ctx context.Context, w *write) error {
	if s.dialect == PostgreSQL && w.makes == nil && w.deletes == nil {
		return s.saveAtOnce(ctx, w.saves)
	}
	return s.transact(ctx, func(conn *sql.Conn) error { return s.apply(ctx, conn, w) })
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// errNoFit means that an UPDATE found no row in the state that it is for.
var errNoFit = errors.New("the task is not as the change expects it")

// apply sends the statements of a write. Those of the prior come first: it gives up the group.
func (s *Store) apply(ctx context.Context, conn *sql.Conn, w *write) error {
	if w.saves != nil {
		if err := s.update(ctx, conn, w.saves); err != nil {
			return err
		}
	}
	if w.makes != nil {
		if err := s.insert(ctx, conn, w.makes); err != nil {
			return err
		}
	}
	if w.deletes != nil {
		if err := s.remove(ctx, conn, w.deletes); err != nil {
			return err
		}
	}
	if s.channel == "" {
		return nil
	}
	for _, id := range w.ids() {
		if _, err := conn.ExecContext(ctx, "SELECT pg_notify($1, $2)", s.channel, s.origin+" "+key(id)); err != nil {
			return err
		}
	}
	return nil
}

// ids are the tasks that a write changes.
func (w *write) ids() (ids []string) {
	for _, c := range []*change{w.saves, w.makes} {
		if c != nil {
			ids = append(ids, c.id)
		}
	}
	if w.deletes != nil {
		ids = append(ids, w.deletes.id)
	}
	return ids
}

// remove deletes a task. Its row in the table of tasks goes first, as the lock that saves and creations of the same ID wait for.
func (s *Store) remove(ctx context.Context, conn *sql.Conn, d *deletion) error {
	if len(key(d.id)) > maxKey {
		return errNoFit // and so not there
	}
	done, err := s.lock(ctx, conn, "DELETE FROM {p}tasks WHERE id = ? AND version = ?", key(d.id), d.version)
	if err != nil {
		return err
	}
	switch n, err := done.RowsAffected(); {
	case err != nil:
		return err
	case n != 1:
		return errNoFit
	}
	for _, table := range []string{"instances", "events", "outputs"} {
		if _, err := conn.ExecContext(ctx, s.sql("DELETE FROM {p}"+table+" WHERE task_id = ?"), key(d.id)); err != nil {
			return err
		}
	}
	return nil
}

// held is the value of the column that is unique among the holders.
func (c *change) held() any {
	if c.holds {
		return key(c.group)
	}
	return nil
}

// updateSQL is the statement that replaces the head of a task if it is as the change expects it.
func (c *change) updateSQL() (query string, args []any) {
	query = `UPDATE {p}tasks SET group_id = ?, held_group = ?, kind = ?, status = ?, version = ?, last_event = last_event + ?, position = ?,
		is_open = ?, runnable_at = ?, record = ? WHERE id = ? AND version = ?`
	args = []any{key(c.group), c.held(), c.kind, c.status, c.version, len(c.events), c.position, c.open, c.runnable, c.record, key(c.id), c.version - 1}
	if len(c.events) > 0 {
		query += " AND last_event = ?"
		args = append(args, c.first-1)
	}
	return query, args
}

func (s *Store) update(ctx context.Context, conn *sql.Conn, c *change) error {
	if len(key(c.id)) > maxKey {
		return errNoFit // and so not there
	}
	query, args := c.updateSQL()
	done, err := s.lock(ctx, conn, query, args...)
	if err != nil {
		return err
	}
	switch n, err := done.RowsAffected(); {
	case err != nil:
		return err
	case n != 1:
		return errNoFit
	}
	return s.parts(ctx, conn, c)
}

func (s *Store) insert(ctx context.Context, conn *sql.Conn, c *change) error {
	if len(c.events) > 0 && c.first != 1 {
		return errNoFit
	}
	_, err := s.lock(ctx, conn, `INSERT INTO {p}tasks
		(id, group_id, held_group, kind, status, version, last_event, position, is_open, runnable_at, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		key(c.id), key(c.group), c.held(), c.kind, c.status, c.version, len(c.events), c.position, c.open, c.runnable, c.record)
	if err != nil {
		return err
	}
	return s.parts(ctx, conn, c)
}

// A portion is what a change writes into one table.
type portion struct {
	table, column string
	pairs         []pair
}

func (c *change) portions() []portion {
	return []portion{{"instances", "instance_id", c.rows}, {"events", "seq", c.events}, {"outputs", "instance_id", c.outs}}
}

// parts writes rows, events and outputs.
func (s *Store) parts(ctx context.Context, conn *sql.Conn, c *change) error {
	for _, p := range c.portions() {
		if err := s.upsert(ctx, conn, p.table, p.column, key(c.id), p.pairs); err != nil {
			return err
		}
	}
	return nil
}

// What one statement carries at most.
const (
	chunkRows  = 256
	chunkBytes = 1 << 20
)

// upsert writes pairs in as few statements as their limits allow. The numbers of pairs in one are powers of two, so that
// there are only few different statements for drivers that keep prepared ones.
func (s *Store) upsert(ctx context.Context, conn *sql.Conn, table, column, taskKey string, pairs []pair) error {
	for len(pairs) > 0 {
		n, size := 1, len(pairs[0].record)
		for next := 2; next <= min(chunkRows, len(pairs)); next *= 2 {
			for _, p := range pairs[n:next] {
				size += len(p.record)
			}
			if size > chunkBytes {
				break
			}
			n = next
		}
		args := make([]any, 0, 3*n)
		for _, p := range pairs[:n] {
			args = append(args, taskKey, p.key, p.record)
		}
		if _, err := conn.ExecContext(ctx, s.upsertSQL(table, column, n), args...); err != nil {
			return err
		}
		pairs = pairs[n:]
	}
	return nil
}

func (s *Store) upsertSQL(table, column string, n int) string {
	query := []byte("INSERT INTO {p}" + table + " (task_id, " + column + ", record) VALUES (?, ?, ?)")
	for range n - 1 {
		query = append(query, ", (?, ?, ?)"...)
	}
	switch {
	case table == "events": // never written twice
	case s.dialect == MySQL:
		query = append(query, " ON DUPLICATE KEY UPDATE record = VALUES(record)"...)
	default:
		query = append(query, " ON CONFLICT (task_id, "+column+") DO UPDATE SET record = excluded.record"...)
	}
	return s.sql(string(query))
}
