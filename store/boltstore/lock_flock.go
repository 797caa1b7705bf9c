//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package boltstore

import (
	"errors"
	"os"
	"syscall"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"
)

// lock takes the lock that bbolt will take, on the same open file, where that is a repetition.
func lock(f *os.File, timeout time.Duration) error {
	const step = 25 * time.Millisecond
	for end := time.Now().Add(timeout); ; time.Sleep(min(step, time.Until(end))) { //nolint:forbidigo // Open takes no context; the wait is bounded
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return err
		case !time.Now().Before(end):
			return bolterrors.ErrTimeout
		}
	}
}

// release gives a file and its lock back where bbolt cannot any more. To close it is not enough: what is mapped of it holds the lock.
func release(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}
