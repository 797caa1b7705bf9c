package sqlstore

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/internal/record"
)

// A Listen function receives the notifications of PostgreSQL, which database/sql has no words for. It opens a connection of its
// own, sends LISTEN for the channel, calls told with an empty text once that is done, and then with the payload of each
// notification. It returns when ctx is done or the connection fails; it is called again then. With pgx:
//
//	func(ctx context.Context, channel string, told func(payload string)) error {
//		conn, err := pgx.Connect(ctx, dsn)
//		if err != nil {
//			return err
//		}
//		defer conn.Close(context.WithoutCancel(ctx))
//		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
//			return err
//		}
//		told("")
//		for {
//			n, err := conn.WaitForNotification(ctx)
//			if err != nil {
//				return err
//			}
//			told(n.Payload)
//		}
//	}
type Listen func(ctx context.Context, channel string, told func(payload string)) error

// ListeningStore is a [Store] on PostgreSQL that announces its saves with NOTIFY, in the transaction of the save, and hears of those of
// others: a [rollingupgrade.Notifier], so that a Runner sees commands of other processes at once. While the connection
// that listens is down, and every Options.Rescan in any case, it looks what was saved. It listens
// as long as it has subscribers.
//
// Use it in all processes or in none: saves of a plain Store are only found by looking.
type ListeningStore struct {
	*Store
	listen Listen
	subs   record.Subscribers

	mu        sync.Mutex
	listeners int
	stop      context.CancelFunc
}

// NewListening is [New] for PostgreSQL with notifications.
func NewListening(db *sql.DB, listen Listen, o Options) (*ListeningStore, error) {
	s, err := New(db, PostgreSQL, o)
	if err != nil {
		return nil, err
	}
	if listen == nil {
		return nil, &rollingupgrade.FieldError{Field: "listen", Problem: "must not be nil"}
	}
	s.channel = s.prefix + "saved"
	return &ListeningStore{Store: s, listen: listen}, nil
}

// Create implements [rollingupgrade.Store].
func (s *ListeningStore) Create(ctx context.Context, c rollingupgrade.Creation) error {
	err := s.Store.Create(ctx, c)
	if err == nil {
		s.subs.Tell(c.Task.ID)
		if c.Prior != nil {
			s.subs.Tell(c.Prior.Head.ID)
		}
	}
	return err
}

// Save implements [rollingupgrade.Store].
func (s *ListeningStore) Save(ctx context.Context, c rollingupgrade.Change) error {
	err := s.Store.Save(ctx, c)
	if err == nil {
		s.subs.Tell(c.Head.ID)
	}
	return err
}

// Delete implements [rollingupgrade.Pruner].
func (s *ListeningStore) Delete(ctx context.Context, taskID string, version int64) error {
	err := s.Store.Delete(ctx, taskID, version)
	if err == nil {
		s.subs.Tell(taskID)
	}
	return err
}

// Notify implements [rollingupgrade.Notifier].
func (s *ListeningStore) Notify(f func(taskID string)) (stop func()) {
	remove := s.subs.Add(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listeners++; s.listeners == 1 {
		ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // ends with the last subscriber
		s.stop = cancel
		go s.hear(ctx)
	}
	return sync.OnceFunc(func() {
		remove()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.listeners--; s.listeners == 0 {
			s.stop()
		}
	})
}

// lookWhileDeaf is how often the tables are looked at while the connection that listens is down.
const lookWhileDeaf = 2 * time.Second

// hear listens and looks until ctx is done.
func (s *ListeningStore) hear(ctx context.Context) {
	listening := make(chan bool, 1) // the newest state
	state := func(on bool) {
		for {
			select {
			case listening <- on:
				return
			case <-listening:
			}
		}
	}
	go func() {
		for ctx.Err() == nil {
			_ = s.listen(ctx, s.channel, func(payload string) {
				if payload == "" {
					state(true)
				} else if origin, id, ok := strings.Cut(payload, " "); ok && origin != s.origin {
					s.subs.Tell(unkey(id))
				}
			})
			state(false)
			if sleep(ctx, time.Second) != nil {
				return
			}
		}
	}()
	var seen sightings
	every := lookWhileDeaf
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case on := <-listening:
			if every = lookWhileDeaf; on {
				every = s.rescan
			}
		case <-timer.C:
		}
		if err := s.look(ctx, &seen); err != nil {
			timer.Reset(lookWhileDeaf)
			continue
		}
		timer.Reset(every)
	}
}

// sightings are what the last look saw.
type sightings struct {
	versions map[string]int64 // of open tasks, by key; nil before the first look
	newest   string           // position of the newest task
}

// look tells of what was saved since the last look: tasks whose version has changed, that are new or no longer open. The first time
// it tells of every task there is.
func (s *ListeningStore) look(ctx context.Context, seen *sightings) error {
	query, args := "SELECT id, version, is_open, position FROM {p}tasks", []any(nil)
	if seen.versions != nil {
		query, args = query+" WHERE is_open = 1 OR position > ?", []any{seen.newest}
	}
	now := sightings{map[string]int64{}, seen.newest}
	var changed []string
	err := s.query(ctx, query, args, func(r *sql.Rows) error {
		var id, position string
		var version int64
		var open int
		if err := r.Scan(&id, &version, &open, &position); err != nil {
			return err
		}
		if v, known := seen.versions[id]; !known || v != version {
			changed = append(changed, unkey(id))
		}
		if open == 1 {
			now.versions[id] = version
		}
		now.newest = max(now.newest, position)
		return nil
	})
	if err != nil {
		return err
	}
	for id := range seen.versions {
		if _, open := now.versions[id]; !open {
			changed = append(changed, unkey(id))
		}
	}
	*seen = now
	s.subs.Tell(changed...)
	return nil
}
