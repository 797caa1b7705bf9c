package killtest

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// A moody store fails the saves that it is told to, with their effect or without.
type moody struct {
	*ru.MemoryStore
	moods []mood
}

type mood int

const (
	fine     mood = iota
	refuses       // nothing is kept, and the error does not say so
	keepsMum      // it is kept, and the error does not say so
)

func (s *moody) Save(ctx context.Context, c ru.Change) error {
	m := s.moods[0]
	s.moods = s.moods[1:]
	if m != refuses {
		if err := s.MemoryStore.Save(ctx, c); err != nil {
			return err
		}
	}
	if m != fine {
		return errors.New("connection lost")
	}
	return nil
}

// What is tried until it is kept is one save, whichever try it was.
func TestJournalNotesASaveOnce(t *testing.T) {
	for name, moods := range map[string][]mood{
		"at once": {fine}, "the second try": {refuses, fine}, "the answer was lost": {keepsMum}, "the third try": {refuses, refuses, keepsMum},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store := &moody{ru.NewMemoryStore(), moods}
			j, err := newJournal(store, &settings{Name: "w1", Journal: filepath.Join(dir, "w1.journal")})
			if err != nil {
				t.Fatal(err)
			}
			task := &ru.Task{Head: ru.Head{Schema: ru.SchemaVersion, ID: "task-1", GroupID: "g", Kind: ru.Upgrade, Status: ru.StatusPending, Version: 1}}
			if err := j.Create(t.Context(), ru.Creation{Task: task}); err != nil {
				t.Fatal(err)
			}
			head := task.Head
			head.Version, head.Nonce = 2, "w1/1/1"
			for range moods {
				_ = j.Save(t.Context(), ru.Change{Head: &head})
				if _, err := j.Head(t.Context(), "task-1"); err != nil { // as the Runner does
					t.Fatal(err)
				}
			}
			if _, err := j.Load(t.Context(), "task-1"); err != nil {
				t.Fatal(err)
			}
			all, err := readJournals(dir)
			if err != nil {
				t.Fatal(err)
			}
			saves := 0
			for _, e := range all {
				if e.Kind == "save" && e.Version == 2 {
					saves++
				}
			}
			if saves != 1 {
				t.Errorf("%d saves of version 2 are noted: %+v", saves, all)
			}
		})
	}
}
