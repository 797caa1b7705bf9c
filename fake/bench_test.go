package fake_test

import (
	"context"
	"testing"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

func BenchmarkTenThousandInstances(b *testing.B) {
	cfg := fake.Instant()
	cfg.NoLog = true
	c := fake.Demo(cfg, 10_000)
	ctx := context.Background()
	ids := c.InstanceIDs(fake.DemoGroup)[:100]
	b.Run("Group", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Group(ctx, fake.DemoGroup); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Instances", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Instances(ctx, fake.DemoGroup, ids); err != nil {
				b.Fatal(err)
			}
		}
	})
}
