package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

// limit lets no file of this process grow beyond so many bytes, as a full disk does.
func limit(bytes uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: ^uint64(0)})
}

// full reports whether err says so in clear words; bbolt does not wrap all that the system says.
func full(err error) bool {
	return errors.Is(err, syscall.EFBIG) || err != nil && strings.Contains(err.Error(), syscall.EFBIG.Error())
}

func init() {
	children["full"] = writeWhenFull
	children["full at work"] = workWhenFull
	children["full when made"] = func(path string) error {
		if err := limit(8192); err != nil {
			return err
		}
		s, err := boltstore.Open(path, boltstore.Options{})
		if err == nil || !errors.Is(err, syscall.EFBIG) || errors.Is(err, boltstore.ErrCorrupt) {
			return fmt.Errorf("open with a full disk: %v, %v", s, err)
		}
		if err := limit(^uint64(0)); err != nil {
			return err
		}
		if s, err = boltstore.Open(path, boltstore.Options{}); err != nil {
			return err
		}
		return s.Close()
	}
	children["read-only"] = func(path string) error {
		s, err := boltstore.Open(path, boltstore.Options{})
		if !errors.Is(err, os.ErrPermission) || errors.Is(err, boltstore.ErrCorrupt) || !strings.Contains(err.Error(), path) {
			return fmt.Errorf("open: %v, %v", s, err)
		}
		return nil
	}
}

// writeWhenFull saves until the disk is full, and goes on when it is not any more.
func writeWhenFull(path string) error {
	ctx := context.Background()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return err
	}
	if err := s.Create(ctx, newTask("task-1", 50)); err != nil {
		return err
	}
	if err := limit(400_000); err != nil {
		return err
	}
	version := int64(2)
	for ; version < 10_000; version++ {
		if err = s.Save(ctx, next("task-1", 50, version)); err != nil {
			break
		}
	}
	if !full(err) || errors.Is(err, boltstore.ErrCorrupt) || errors.Is(err, rollingupgrade.ErrVersionConflict) {
		return fmt.Errorf("version %d, with a full disk: %v", version, err)
	}
	for range 3 {
		if err := s.Save(ctx, next("task-1", 50, version)); err == nil {
			return errors.New("a save with a full disk was answered with nil")
		}
		if kept, err := whole(ctx, s, "task-1", 50); err != nil || kept != version-1 {
			return fmt.Errorf("kept is version %d, %v; want %d", kept, err, version-1)
		}
	}
	if err := limit(^uint64(0)); err != nil {
		return err
	}
	for end := version + 100; version < end; version++ {
		if err := s.Save(ctx, next("task-1", 50, version)); err != nil {
			return fmt.Errorf("with space again: %w", err)
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = boltstore.Open(path, boltstore.Options{}); err != nil {
		return err
	}
	if kept, err := whole(ctx, s, "task-1", 50); err != nil || kept != version-1 {
		return fmt.Errorf("kept after all is version %d, %v; want %d", kept, err, version-1)
	}
	return nil
}

// workWhenFull drives a task while the disk is full for a while.
func workWhenFull(path string) error {
	ctx := context.Background()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return err
	}
	cloud := fake.Demo(fake.Config{Speed: 20_000}, 12)
	r, err := rollingupgrade.New(cloud, s, rollingupgrade.Config{
		MaxWait: 10 * time.Millisecond, Poll: 10 * time.Millisecond,
		Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(20 * time.Millisecond) },
	})
	if err != nil {
		return err
	}
	task, err := r.Create(ctx, rollingupgrade.Spec{GroupID: fake.DemoGroup, Update: rollingupgrade.Image("img-v2"), Rollback: rollingupgrade.Image("img-v1"), Batches: rollingupgrade.InBatches(4)})
	if err != nil {
		return err
	}
	if err := limit(1); err != nil { // not even what is there can be written again
		return err
	}
	time.AfterFunc(500*time.Millisecond, func() { _ = limit(^uint64(0)) })
	start := time.Now()
	for err = r.Run(ctx, task.ID); err != nil && time.Since(start) < 10*time.Second; err = r.Run(ctx, task.ID) {
		if !full(err) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	if took := time.Since(start); took < 500*time.Millisecond {
		return fmt.Errorf("the task was done in %s although the disk was full", took)
	}
	got, err := r.Get(ctx, task.ID)
	if err != nil || got.Status != rollingupgrade.StatusSucceeded || len(cloud.Violations()) > 0 {
		return fmt.Errorf("task is %v, %v; violations %v", got.Status, err, cloud.Violations())
	}
	return nil
}

// A full disk is a clear error that changes nothing, and what comes when there is space again goes on.
func TestDiskFull(t *testing.T) {
	for _, what := range []string{"full", "full at work", "full when made"} {
		t.Run(what, func(t *testing.T) {
			path := newPath(t)
			if out, err := process(t, what, path).Output(); err != nil {
				t.Errorf("%s (%v)", out, err)
			}
			if names, err := filepath.Glob(filepath.Dir(path) + "/*"); err != nil || len(names) != 1 {
				t.Errorf("left behind: %v, %v", names, err)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	for _, what := range []string{"folder", "file"} {
		t.Run(what, func(t *testing.T) {
			path := newPath(t)
			if what == "file" {
				if err := open(t, path).Close(); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, 0o444); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Chmod(filepath.Dir(path), 0o555); err != nil {
				t.Fatal(err)
			}
			cmd := process(t, "read-only", path)
			if os.Getuid() == 0 { // nothing is read-only for root
				for dir := filepath.Dir(path); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
					if err := os.Chmod(dir, 0o555); err != nil {
						t.Fatal(err)
					}
				}
				self, err := os.ReadFile(cmd.Path) // where nobody can see it
				if err != nil {
					t.Fatal(err)
				}
				dir, err := os.MkdirTemp("", "boltstore")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/child", self, 0o755)); err != nil { //nolint:gosec // a program
					t.Fatal(err)
				}
				cmd.Path, cmd.Dir = dir+"/child", "/"
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			if out, err := cmd.Output(); err != nil {
				t.Errorf("%s (%v)", out, err)
			}
		})
	}
}
