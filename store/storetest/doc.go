// Package storetest is the suite for implementers of [rollingupgrade.Store]. A store that ends with its process needs only a
// way to make one:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) rollingupgrade.Store { return newStore() })
//	}
//
// For a durable store offer a [Bed], which also opens the same data again:
//
//	func TestStore(t *testing.T) {
//		storetest.RunBed(t, func(t *testing.T) storetest.Bed { // a bed for every case
//			return storetest.Bed{
//				New: func() (rollingupgrade.Store, error) { return filestore.Open(filepath.Join(t.TempDir(), "tasks")) },
//				Reopen: func(s rollingupgrade.Store) (rollingupgrade.Store, error) {
//					s.(*filestore.Store).Close()
//					return filestore.Open(s.(*filestore.Store).Path())
//				},
//				Exclusive: true,
//				Close:     func(s rollingupgrade.Store) error { return s.(*filestore.Store).Close() },
//			}
//		})
//	}
//
// Each case says in [Case.Demands] what a store must do, and prints it when it fails. The parts of the suite:
//
//   - create, read: every field comes back; texts of all kinds; exact IDs; unknown ones
//   - prior: the change of another task in the transaction of a Create
//   - save: rows, outputs and events with the head, all or nothing; compare-and-swap on the version
//   - group: one task at a time holds a group
//   - events, output, list: what can be read besides the record
//   - copies: no memory is shared with the caller
//   - context, iteration: what is canceled or left early
//   - race: many callers at once; run the suite with the race detector
//   - lost: how a write whose answer was lost is told
//   - exclusive, notify, delete: the optional abilities, where the store has them
//   - reopen: other processes and later lives
//   - random: all of it against a model
//
// Every case but the large ones ends with a look at everything that is kept: through every method, and through
// another opening of the data where there is one. The cases run on [Case.Check] without package testing's T too, so
// that a suite of broken stores can hold that each case notices what it should.
package storetest
