package boltstore_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
	"github.com/rollingupgrade/rollingupgrade/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.RunBed(t, func(t *testing.T) storetest.Bed {
		dir := t.TempDir()
		var mu sync.Mutex
		paths := map[rollingupgrade.Store]string{}
		open := func(path string) (rollingupgrade.Store, error) {
			s, err := boltstore.Open(path, boltstore.Options{})
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			paths[s] = path
			return s, nil
		}
		return storetest.Bed{
			New: func() (rollingupgrade.Store, error) {
				mu.Lock()
				path := filepath.Join(dir, fmt.Sprint(len(paths)))
				mu.Unlock()
				return open(path)
			},
			Reopen: func(s rollingupgrade.Store) (rollingupgrade.Store, error) {
				if err := s.(*boltstore.Store).Close(); err != nil {
					return nil, err
				}
				mu.Lock()
				path := paths[s]
				mu.Unlock()
				return open(path)
			},
			Exclusive: true,
			Close:     func(s rollingupgrade.Store) error { return s.(*boltstore.Store).Close() },
		}
	})
}
