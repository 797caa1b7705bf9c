package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/rollingupgrade/rollingupgrade"
)

// check reads everything there is in a store whose pages are in order, and returns ErrCorrupt if something
// is changed, missing or too much: a task whose rows have got lost must not look like one without rows.
func check(tx *bolt.Tx) error {
	count := map[string]int{}
	heads := tx.Bucket(bucketHeads)
	err := heads.ForEach(func(k, _ []byte) error {
		h, err := head(tx, string(k))
		if err != nil {
			return err
		}
		return checkIndex(tx, h, count)
	})
	if err != nil {
		return err
	}
	for _, b := range [][]byte{bucketOrder, bucketOpen, bucketHolders} {
		n := 0
		if err := tx.Bucket(b).ForEach(func(_, _ []byte) error { n++; return nil }); err != nil {
			return err
		}
		if n != count[string(b)] {
			return corrupt("%s has %d entries, and should have %d", b, n, count[string(b)])
		}
	}
	groups := 0
	err = tx.Bucket(bucketGroups).ForEachBucket(func(k []byte) error {
		return tx.Bucket(bucketGroups).Bucket(k).ForEach(func(_, _ []byte) error { groups++; return nil })
	})
	if err == nil && groups != count[string(bucketGroups)] {
		err = corrupt("groups have %d entries, and should have %d", groups, count[string(bucketGroups)])
	}
	for _, b := range [][]byte{bucketRows, bucketEvents, bucketOutputs} {
		if err != nil {
			break
		}
		err = checkParts(tx.Bucket(b), heads, string(b))
	}
	return err
}

// checkIndex looks for the entries that a task must have, and counts them.
func checkIndex(tx *bolt.Tx, h *rollingupgrade.Head, count map[string]int) error {
	has := func(name []byte, in *bolt.Bucket, key []byte, want ...[]byte) error {
		count[string(name)]++
		if in == nil || !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(in.Get(key), w) }) {
			return corrupt("task %s is missing among the %s", h.ID, name)
		}
		return nil
	}
	key, m := orderKey(h), mark(h)
	err := has(bucketOrder, tx.Bucket(bucketOrder), key, m, oldMark)
	if err == nil {
		err = has(bucketGroups, tx.Bucket(bucketGroups).Bucket([]byte(h.GroupID)), key, m, oldMark)
	}
	if err == nil && isOpen(h) {
		err = has(bucketOpen, tx.Bucket(bucketOpen), key, m, oldMark)
	}
	if err == nil && h.HoldsGroup {
		err = has(bucketHolders, tx.Bucket(bucketHolders), []byte(h.GroupID), []byte(h.ID))
	}
	return err
}

// checkParts looks at all rows, events or outputs.
func checkParts(b, heads *bolt.Bucket, name string) error {
	return b.ForEach(func(id, v []byte) error {
		parts := b.Bucket(id)
		if v != nil || parts == nil || heads.Get(id) == nil {
			return corrupt("%s of %q, which is no task", name, id)
		}
		number := uint64(0)
		return parts.ForEach(func(k, v []byte) error {
			if _, err := unseal(k, v); err != nil {
				return fmt.Errorf("%s of task %s: %w", name, id, err)
			}
			if name == string(bucketEvents) {
				if number++; len(k) != 8 || binary.BigEndian.Uint64(k) != number {
					return corrupt("event %d of task %s is missing", number, id)
				}
			}
			return nil
		})
	})
}
