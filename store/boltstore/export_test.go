package boltstore

import bolt "go.etcd.io/bbolt"

// Commits is how many transactions were committed.
func (s *Store) Commits() (n int) {
	_ = s.db.View(func(tx *bolt.Tx) error {
		n = tx.ID()
		return nil
	})
	return n
}

// SetFormat writes the number of the file's format.
func (s *Store) SetFormat(n string) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte(n)) })
}

// Format is the number of the file's format.
func (s *Store) Format() (n string) {
	_ = s.db.View(func(tx *bolt.Tx) error {
		n = string(tx.Bucket(bucketMeta).Get(keyFormat))
		return nil
	})
	return n
}
