package sqltest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/internal/steprate"
)

func BenchmarkSave(b *testing.B) {
	for _, d := range databases {
		for _, rows := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/%d rows", d.name, rows), func(b *testing.B) {
				db := d.open(b, d.address(b))
				s := d.store(b, db, d.tables(b, db))
				if err := s.Create(b.Context(), newTask("task-1", 1000)); err != nil {
					b.Fatal(err)
				}
				c := next("task-1", rows, 2)
				for b.Loop() {
					if err := s.Save(b.Context(), c); err != nil {
						b.Fatal(err)
					}
					c.Head.Version++
					c.Events[0].Seq++
				}
			})
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, d := range databases {
		b.Run(fmt.Sprintf("%s/10000 rows", d.name), func(b *testing.B) {
			db := d.open(b, d.address(b))
			s := d.store(b, db, d.tables(b, db))
			if err := s.Create(b.Context(), newTask("task-1", 10_000)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := s.Load(b.Context(), "task-1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOneDriver compares the saves of one driver with the same saves made by nobody but the store.
func BenchmarkOneDriver(b *testing.B) {
	for _, d := range databases {
		b.Run(d.name, func(b *testing.B) {
			db := d.open(b, d.address(b))
			s := d.store(b, db, d.tables(b, db))
			var driver, bare steprate.Rate
			for b.Loop() {
				one, other, err := steprate.Compare(b.Context(), s, 100, 20)
				if err != nil {
					b.Fatal(err)
				}
				driver, bare = driver.Add(one), bare.Add(other)
			}
			b.ReportMetric(driver.SavesPerSecond(), "saves/s")
			b.ReportMetric(bare.SavesPerSecond(), "bare-saves/s")
			b.ReportMetric(driver.SavesPerSecond()/bare.SavesPerSecond(), "of-bare")
		})
	}
}

// BenchmarkTasks is many small tasks at once.
func BenchmarkTasks(b *testing.B) {
	for _, d := range databases {
		for _, tasks := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", d.name, tasks), func(b *testing.B) { benchmarkTasks(b, d, d.address(b), tasks) })
		}
	}
}

// BenchmarkTasksAway is the same with a server on another machine: half a millisecond each way.
func BenchmarkTasksAway(b *testing.B) {
	for _, d := range databases[1:] {
		for _, tasks := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/%d", d.name, tasks), func(b *testing.B) {
				address := d.address(b)
				p := newProxy(b, d.hostPort(b, address))
				p.delay = time.Millisecond / 2
				benchmarkTasks(b, d, d.through(b, address, p.addr()), tasks)
			})
		}
	}
}

func benchmarkTasks(b *testing.B, d database, address string, tasks int) {
	db := d.open(b, address)
	db.SetMaxOpenConns(32)
	db.SetMaxIdleConns(32)
	s := d.store(b, db, d.tables(b, db))
	var all steprate.Rate
	for b.Loop() {
		r, err := steprate.Measure(b.Context(), s, tasks, 5, 1)
		if err != nil {
			b.Fatal(err)
		}
		all = all.Add(r)
	}
	b.ReportMetric(all.SavesPerSecond(), "saves/s")
	b.ReportMetric(all.TasksPerSecond(), "tasks/s")
}
