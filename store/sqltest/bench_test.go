package sqltest_test

import (
	"fmt"
	"testing"
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
