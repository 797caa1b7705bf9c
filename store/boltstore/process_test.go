package boltstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

func init() {
	children["hold"] = func(path string) error {
		s, err := boltstore.Open(path, boltstore.Options{})
		if err != nil {
			return err
		}
		fmt.Println("open", s.Life())
		return untilKilled()
	}
	// write saves three tasks as fast as it can and prints each version that is saved.
	children["write"] = func(path string) error {
		ctx := context.Background()
		s, err := boltstore.Open(path, boltstore.Options{Timeout: 5 * time.Second})
		if err != nil {
			return err
		}
		var out sync.Mutex
		for n := range 3 {
			id := fmt.Sprint("task-", n)
			version, err := whole(ctx, s, id, 20)
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			go func() {
				for {
					version++
					if err := s.Save(ctx, next(id, 20, version)); err != nil {
						fmt.Println("error:", err)
						return
					}
					out.Lock()
					fmt.Println(id, version)
					out.Unlock()
				}
			}()
		}
		return untilKilled()
	}
}

// untilKilled waits for the test to end this process. (A select without cases would be a deadlock to the runtime.)
func untilKilled() error {
	time.Sleep(time.Hour)
	return errors.New("nobody killed this process")
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	path := newPath(t)
	cmd := process(t, "hold", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "open ") {
		t.Fatalf("child says %q, %v", line, err)
	}
	for _, timeout := range []time.Duration{10 * time.Millisecond, 300 * time.Millisecond} {
		start := time.Now()
		s, err := boltstore.Open(path, boltstore.Options{Timeout: timeout})
		took := time.Since(start)
		if !errors.Is(err, boltstore.ErrLocked) || s != nil {
			t.Fatalf("Open of a file that is open returned %v, %v", s, err)
		}
		if !strings.Contains(err.Error(), path) {
			t.Errorf("error %q does not name the file", err)
		}
		if took < timeout || took > timeout+5*time.Second {
			t.Errorf("took %s, asked for %s", took, timeout)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatalf("after the other process was killed: %v", err)
	}
	defer s.Close()
	if "open "+s.Life()+"\n" == line {
		t.Error("the life of a killed process goes on")
	}
}

// A process that is killed at any moment loses nothing that was answered, and nothing is half there.
func TestKilled(t *testing.T) {
	ctx := t.Context()
	path := newPath(t)
	saved := map[string]int64{}
	s := open(t, path)
	for n := range 3 {
		id := fmt.Sprint("task-", n)
		saved[id] = 1
		if err := s.Create(ctx, newTask(id, 20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	chance := rand.New(rand.NewPCG(seed, 0))
	kills, total := 25, int64(0)
	for range kills {
		cmd := process(t, "write", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		left := 1 + chance.IntN(60)
		pause := time.Duration(chance.IntN(3000)) * time.Microsecond
		for lines.Scan() {
			var id string
			var version int64
			if _, err := fmt.Sscan(lines.Text(), &id, &version); err != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			saved[id] = version
			if left--; left == 0 {
				time.Sleep(pause) // another point of a commit each time
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		s, err := boltstore.Open(path, boltstore.Options{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for id, least := range saved {
			version, err := whole(ctx, s, id, 20)
			if err != nil || version < least || version > least+1 {
				t.Fatalf("seed %d: task %s is of version %d, %v; saved was %d", seed, id, version, err, least)
			}
			saved[id] = version
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range saved {
		total += version
	}
	t.Logf("%d kills, %d saves, seed %d", kills, total, seed)
}
