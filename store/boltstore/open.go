package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// format is the number of the file's form: which buckets there are and how keys and values are made.
// Files of format 1 say nothing in the marks of their indexes.
const format = 2

var (
	bucketMeta = []byte("rollingupgrade") // "format" -> number
	keyFormat  = []byte("format")
)

// makeFile makes a new file complete under another name and then gives it its name, so that whoever dies meanwhile, or
// finds the disk full, leaves none behind that is half made. It does nothing if the file is there.
func makeFile(path string, o Options) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone already where all went well
	if err := errors.Join(f.Chmod(o.Mode), f.Close()); err != nil {
		return err
	}
	s, err := open(f.Name(), o)
	if err != nil {
		return err
	}
	if err := s.db.Close(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		// Not every file system has links. There, of two processes that make the file at once the later one wins.
		if err := os.Rename(f.Name(), path); err != nil {
			return err
		}
	}
	if d, err := os.Open(dir); err == nil { // so that the name survives a power failure, where folders can be synced
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// open opens a file that is there; an empty one becomes a store.
func open(path string, o Options) (s *Store, err error) {
	s = &Store{broken: make(chan struct{})}
	defer func() {
		var p *panicError
		if errors.As(err, &p) && s.file != nil {
			_ = release(s.file)
		}
	}()
	err = safely(func() error {
		var err error
		s.db, err = bolt.Open(path, o.Mode, &bolt.Options{
			Timeout: o.Timeout, FreelistType: bolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				if s.file != nil {
					return os.OpenFile(name, flag, mode) // for a back-up
				}
				f, err := openChecked(name, flag, mode, o.Timeout)
				s.file = f
				return f, err
			},
		})
		if err != nil {
			return opening(err)
		}
		if err := s.prepare(); err != nil {
			return errors.Join(err, s.db.Close())
		}
		return nil
	})
	return s, err
}

// openChecked opens and locks a file and looks at its pages.
func openChecked(name string, flag int, mode os.FileMode, timeout time.Duration) (*os.File, error) {
	f, err := os.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = lock(f, timeout)
	}
	if err == nil {
		err = verify(f, info.Size())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// opening tells what the operating system said about a file from what bbolt found in it.
func opening(err error) error {
	var path *fs.PathError
	var call *os.SyscallError
	var number syscall.Errno
	if errors.Is(err, bolterrors.ErrTimeout) || errors.Is(err, ErrCorrupt) || errors.As(err, &path) || errors.As(err, &call) || errors.As(err, &number) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// prepare looks at what the file holds, and makes the buckets of an empty one.
func (s *Store) prepare() error {
	empty, older := false, false
	err := s.db.View(func(tx *bolt.Tx) error {
		k, _ := tx.Cursor().First()
		if empty = k == nil; empty {
			return nil
		}
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return fmt.Errorf("%w: it belongs to another program", ErrCorrupt)
		}
		n, err := strconv.Atoi(string(meta.Get(keyFormat)))
		if err != nil {
			return fmt.Errorf("%w: its format: %w", ErrCorrupt, err)
		}
		if n > format {
			return fmt.Errorf("%w: %d, this version knows %d", ErrNewerFormat, n, format)
		}
		older = n < format
		for _, b := range buckets {
			if tx.Bucket(b) == nil {
				return fmt.Errorf("%w: it has no bucket %s", ErrCorrupt, b)
			}
		}
		return check(tx)
	})
	if err != nil || !empty && !older {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		if older { // from now on an older version of this package must not open it
			return tx.Bucket(bucketMeta).Put(keyFormat, []byte(strconv.Itoa(format)))
		}
		for _, b := range buckets {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta).Put(keyFormat, []byte(strconv.Itoa(format)))
	})
}

// safely turns the panics that bbolt answers a damaged file with into ErrCorrupt, and so the fault of
// reading where a file that was cut short has no more bytes.
func safely(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p}
		}
	}()
	return f()
}

// A panicError is a panic of bbolt. It wraps ErrCorrupt.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("%v: %v", ErrCorrupt, e.value) }
func (e *panicError) Unwrap() error { return ErrCorrupt }
