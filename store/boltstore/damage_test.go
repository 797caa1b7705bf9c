package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

// sample makes a store with two tasks and returns its bytes.
func sample(t *testing.T) []byte {
	t.Helper()
	path := newPath(t)
	s := open(t, path)
	for n := range 2 {
		id := fmt.Sprint("task-", n)
		if err := s.Create(t.Context(), newTask(id, 30)); err != nil {
			t.Fatal(err)
		}
		for v := int64(2); v < 6; v++ {
			if err := s.Save(t.Context(), next(id, 30, v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// use does everything with a file that may be damaged. What it returns is what it could not do; what it could is right.
func use(t *testing.T, path string) (refused []error) {
	t.Helper()
	ctx := context.Background()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return []error{err}
	}
	for n := range 2 {
		id := fmt.Sprint("task-", n)
		version, err := whole(ctx, s, id, 30)
		if err == nil && version != 5 {
			t.Errorf("version %d is given for 5", version)
		}
		refused = append(refused, err, s.Save(ctx, next(id, 30, 6)))
	}
	for h, err := range s.List(ctx, rollingupgrade.Filter{}) {
		if err == nil && h.ID != "task-0" && h.ID != "task-1" {
			t.Errorf("lists task %q", h.ID)
		}
		refused = append(refused, err)
	}
	refused = append(refused, s.Backup(ctx, &bytes.Buffer{}))
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	again, err := boltstore.Open(path, boltstore.Options{}) // the lock is given back whatever happened
	if errors.Is(err, boltstore.ErrLocked) {
		t.Errorf("open again: %v", err)
	}
	if err == nil {
		err = again.Close()
	}
	if err != nil && !errors.Is(err, boltstore.ErrCorrupt) {
		t.Errorf("open and close again: %v", err)
	}
	return refused
}

// A file that was cut short or changed never makes the program panic, and what is read is right or ErrCorrupt.
func TestDamaged(t *testing.T) {
	good := sample(t)
	path := newPath(t)
	check := func(what string, b []byte, must bool) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, err := range use(t, path) {
			switch {
			case errors.Is(err, boltstore.ErrCorrupt):
				found = true
			case err != nil:
				t.Errorf("%s: error %q, want one that wraps ErrCorrupt", what, err)
			}
		}
		if must && !found {
			t.Errorf("%s: was not noticed", what)
		}
	}
	check("unchanged", good, false)
	used := len(bytes.TrimRight(good, "\x00"))
	for size := 1; size < used; size += 2039 {
		check(fmt.Sprintf("cut to %d bytes", size), good[:size], true)
	}
	for at := 2 * 4096; at < used; at += 211 {
		b := bytes.Clone(good)
		b[at] ^= 0xff
		check(fmt.Sprintf("byte %d", at), b, false)
	}
	for at := 0; at < used; at += 4096 {
		if at < 2*4096 {
			continue // bbolt takes one meta page that is not whole for a commit that did not end, and goes back to the one before
		}
		for _, fill := range []byte{0, 0xff, 0x01} {
			b := bytes.Clone(good)
			copy(b[at:min(at+4096, len(b))], bytes.Repeat([]byte{fill}, 4096))
			check(fmt.Sprintf("page %d filled with %#x", at/4096, fill), b, false)
		}
	}
}

// What is written under the feet of an open store is an error too: bbolt maps the file, and reading behind its end is a fault.
func TestDamagedWhileOpen(t *testing.T) {
	path := newPath(t)
	if err := os.WriteFile(path, sample(t), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "task-1"); !errors.Is(err, boltstore.ErrCorrupt) {
		t.Errorf("Load: %v", err)
	}
	for range 2 {
		if err := s.Save(t.Context(), next("task-1", 30, 6)); !errors.Is(err, boltstore.ErrCorrupt) {
			t.Errorf("Save: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestNotAStore(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := filepath.Join(dir, "other")
	db, err := bolt.Open(other, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("heads"))
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer")
	s := open(t, newer)
	if err := errors.Join(s.SetFormat("3"), s.Close()); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(dir, "odd")
	s = open(t, odd)
	if err := errors.Join(s.SetFormat("two"), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		want       error
	}{
		{"text", write("text", bytes.Repeat([]byte("hello "), 10_000)), boltstore.ErrCorrupt},
		{"short text", write("short", []byte("hello")), boltstore.ErrCorrupt},
		{"zeros", write("zeros", make([]byte, 65536)), boltstore.ErrCorrupt},
		{"another program's", other, boltstore.ErrCorrupt},
		{"odd format", odd, boltstore.ErrCorrupt},
		{"newer format", newer, boltstore.ErrNewerFormat},
		{"folder missing", filepath.Join(dir, "none", "tasks.db"), os.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := os.ReadFile(c.path)
			s, err := boltstore.Open(c.path, boltstore.Options{})
			if !errors.Is(err, c.want) || s != nil {
				t.Errorf("Open returned %v, %v; want %v", s, err, c.want)
			}
			if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("folder", func(t *testing.T) {
		if s, err := boltstore.Open(dir, boltstore.Options{}); err == nil || s != nil {
			t.Errorf("Open returned %v, %v", s, err)
		}
	})
	t.Run("empty file", func(t *testing.T) {
		s, err := boltstore.Open(write("empty", nil), boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Create(t.Context(), newTask("task-1", 1)), s.Close()); err != nil {
			t.Error(err)
		}
	})
}

var update = flag.Bool("update", false, "write the file of the newest format in testdata if it is not there")

// A file of an older format, as the version of that time wrote it, opens in every later one, and not in the old one any more.
func TestFormats(t *testing.T) {
	const newest = 2
	for format := 1; format <= newest; format++ {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			file := fmt.Sprintf("testdata/format-%d.db", format)
			if _, err := os.Stat(file); *update && format == newest && errors.Is(err, os.ErrNotExist) {
				writeFormat(t, file)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			path := newPath(t)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, path)
			list := func(f rollingupgrade.Filter) (got []string) {
				t.Helper()
				for h, err := range s.List(t.Context(), f) {
					if err != nil {
						t.Fatal(err)
					}
					version, err := whole(t.Context(), s, h.ID, 3)
					got = append(got, fmt.Sprint(h.ID, " ", version, " ", err))
				}
				return got
			}
			both, first := []string{"task-2 1 <nil>", "task-1 4 <nil>"}, []string{"task-1 4 <nil>"}
			running := []rollingupgrade.Status{rollingupgrade.StatusRunning}
			for _, x := range []struct {
				f    rollingupgrade.Filter
				want []string
			}{
				{rollingupgrade.Filter{Runnable: created}, both},
				{rollingupgrade.Filter{Kind: rollingupgrade.Upgrade, Status: running}, both},
				{rollingupgrade.Filter{Kind: rollingupgrade.Rollback}, nil},
				{rollingupgrade.Filter{Status: []rollingupgrade.Status{rollingupgrade.StatusFailed}}, nil},
				{rollingupgrade.Filter{After: rollingupgrade.Position{CreatedAt: created.Add(1), ID: "task-2"}}, first},
				{rollingupgrade.Filter{CreatedBefore: created.Add(1)}, first},
			} {
				if diff := cmp.Diff(x.want, list(x.f)); diff != "" {
					t.Errorf("tasks of %+v (-want +got):\n%s", x.f, diff)
				}
			}
			if n := s.Format(); n != fmt.Sprint(newest) {
				t.Errorf("the file has format %s after it was opened", n)
			}
			c := next("task-1", 3, 5)
			c.Head.Status = rollingupgrade.StatusFailed
			if err := errors.Join(s.Save(t.Context(), c), s.Delete(t.Context(), "task-2", 1), s.Close()); err != nil {
				t.Fatal(err)
			}
			s = open(t, path) // which looks whether all is in order
			want := []string{"task-1 5 <nil>"}
			if diff := cmp.Diff(want, list(rollingupgrade.Filter{Status: []rollingupgrade.Status{rollingupgrade.StatusFailed}})); diff != "" {
				t.Errorf("tasks after a save (-want +got):\n%s", diff)
			}
			if got := list(rollingupgrade.Filter{Status: running}); got != nil {
				t.Errorf("tasks under their old status: %v", got)
			}
		})
	}
}

func writeFormat(t *testing.T, path string) {
	t.Helper()
	s := open(t, path)
	second := newTask("task-2", 3)
	second.Task.CreatedAt = created.Add(1)
	errs := []error{s.Create(t.Context(), newTask("task-1", 3)), s.Create(t.Context(), second)}
	for v := int64(2); v < 5; v++ {
		errs = append(errs, s.Save(t.Context(), next("task-1", 3, v)))
	}
	if err := errors.Join(append(errs, s.Close())...); err != nil {
		t.Fatal(err)
	}
}
