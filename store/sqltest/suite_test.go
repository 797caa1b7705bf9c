package sqltest_test

import (
	"database/sql"
	"sync"
	"testing"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/sqlstore"
	"github.com/rollingupgrade/rollingupgrade/store/storetest"
)

// bed makes stores on tables of their own; each opening has its own pool, as in another process.
func (d database) bed(t *testing.T, wrap func(*sql.DB, sqlstore.Options) (rollingupgrade.Store, error)) storetest.Bed {
	type opening struct {
		address string
		options sqlstore.Options
	}
	var mu sync.Mutex
	opened := map[rollingupgrade.Store]opening{}
	open := func(o opening) (rollingupgrade.Store, error) {
		s, err := wrap(d.open(t, o.address), o.options)
		mu.Lock()
		defer mu.Unlock()
		opened[s] = o
		return s, err
	}
	return storetest.Bed{
		Rows: 3000, Tasks: 300, // several pages and chunks
		New: func() (rollingupgrade.Store, error) {
			address := d.address(t)
			return open(opening{address, d.tables(t, d.open(t, address))})
		},
		Reopen: func(s rollingupgrade.Store) (rollingupgrade.Store, error) {
			mu.Lock()
			o := opened[s]
			mu.Unlock()
			return open(o)
		},
	}
}

func TestSuite(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		t.Parallel()
		storetest.RunBed(t, func(t *testing.T) storetest.Bed {
			return d.bed(t, func(db *sql.DB, o sqlstore.Options) (rollingupgrade.Store, error) {
				return sqlstore.New(db, d.dialect, o)
			})
		})
	})
	t.Run("PostgreSQL listening", func(t *testing.T) {
		t.Parallel()
		d := databases[1]
		storetest.RunBed(t, func(t *testing.T) storetest.Bed {
			hear := listen(d.address(t))
			return d.bed(t, func(db *sql.DB, o sqlstore.Options) (rollingupgrade.Store, error) {
				return sqlstore.NewListening(db, hear, o)
			})
		})
	})
}
