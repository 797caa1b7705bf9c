//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package boltstore

import (
	"os"
	"time"
)

// lock leaves it to bbolt to take the lock.
func lock(*os.File, time.Duration) error { return nil }

// release gives a file and its lock back where bbolt cannot any more.
func release(f *os.File) error { return f.Close() }
