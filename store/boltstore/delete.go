package boltstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/internal/record"
)

// Delete implements [rollingupgrade.Pruner]. The file does not become smaller; what is freed is used for later tasks.
func (s *Store) Delete(ctx context.Context, taskID string, version int64) error {
	var kept *rollingupgrade.Head
	return s.write(ctx, &write{
		ids: []string{taskID},
		check: func(tx *bolt.Tx) (err error) {
			if kept, err = head(tx, taskID); err == nil && kept.Version != version {
				err = rollingupgrade.ErrVersionConflict
			}
			if err != nil {
				return fmt.Errorf("delete task %s: %w", record.Clip(taskID), err)
			}
			return nil
		},
		apply: func(tx *bolt.Tx) error { return remove(tx, kept) },
	})
}

// remove removes all that there is of a task.
func remove(tx *bolt.Tx, h *rollingupgrade.Head) error {
	id := []byte(h.ID)
	errs := []error{tx.Bucket(bucketHeads).Delete(id), unindex(tx, h, orderKey(h))}
	if holders, group := tx.Bucket(bucketHolders), []byte(h.GroupID); string(holders.Get(group)) == h.ID {
		errs = append(errs, holders.Delete(group))
	}
	for _, name := range [][]byte{bucketRows, bucketEvents, bucketOutputs} {
		if b := tx.Bucket(name); b.Bucket(id) != nil {
			errs = append(errs, b.DeleteBucket(id))
		}
	}
	return errors.Join(errs...)
}
