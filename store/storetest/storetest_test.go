package storetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/storetest"
)

// TestFaultlessStorePasses runs the suite on the store of the other tests, without a flaw.
func TestFaultlessStorePasses(t *testing.T) {
	storetest.RunBed(t, func(*testing.T) storetest.Bed { return bedOf(none, false) })
}

// TestFaultlessExclusiveStorePasses does so on a store that excludes others, as a program without package testing's T would.
func TestFaultlessExclusiveStorePasses(t *testing.T) {
	bed := bedOf(none, true)
	bed.Rows, bed.Tasks, bed.Events = 20, 20, 20
	for name, err := range storetest.Check(t.Context(), bed) {
		t.Errorf("%s: %v", name, err)
	}
}

// TestCheckNamesWhatFails holds that Check runs every case that applies.
func TestCheckNamesWhatFails(t *testing.T) {
	failed := storetest.Check(t.Context(), storetest.Bed{Reopen: bedOf(none, false).Reopen})
	for _, c := range storetest.Cases() {
		if failed[c.Name] == nil {
			t.Errorf("case %q passes without a store", c.Name)
		}
		if c.Demands == "" {
			t.Errorf("case %q does not say what it demands", c.Name)
		}
	}
}

// TestNeeds holds which cases are left out on which bed.
func TestNeeds(t *testing.T) {
	bare := storetest.Bed{New: func() (rollingupgrade.Store, error) { return struct{ rollingupgrade.Store }{newDisk(none).open()}, nil }}
	silent := bedOf(none, true)
	silent.New = bare.New
	deletes := []string{
		"delete/whole", "delete/ID again", "delete/conflict", "delete/group", "delete/racing saves", "delete/while reading", "delete/context",
		"delete/side by side", "delete/told",
	}
	notify := []string{"notify/told", "notify/visible when told", "notify/stop", "notify/at once", "notify/other openings"}
	for _, tt := range []struct {
		name string
		bed  storetest.Bed
		want []string
	}{
		{
			name: "nothing optional", bed: bare,
			want: slices.Concat([]string{"exclusive/life"}, notify, []string{"reopen/everything is kept", "reopen/rules hold on", "reopen/side by side"}, deletes),
		},
		{name: "side by side", bed: bedOf(none, false), want: []string{"exclusive/life"}},
		{name: "exclusive", bed: bedOf(none, true), want: []string{"notify/other openings", "reopen/side by side", "delete/side by side"}},
		{name: "neither ability", bed: silent, want: slices.Concat([]string{"exclusive/life"}, notify, []string{"reopen/side by side"}, deletes)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, c := range storetest.Cases() {
				if c.Needs != nil && c.Needs(tt.bed) != "" {
					got = append(got, c.Name)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("cases that are left out (-want +got):\n%s", d)
			}
		})
	}
}

// panicking is a store that panics.
type panicking struct{ rollingupgrade.Store }

func (panicking) Create(context.Context, rollingupgrade.Creation) error { panic("out of order") }

// slow is a store that waits for its context.
type slow struct{ rollingupgrade.Store }

func (slow) Save(ctx context.Context, _ rollingupgrade.Change) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestWhatIsNoStoreFails holds that beds and stores that do not work at all fail each case, and end.
func TestWhatIsNoStoreFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		bed  storetest.Bed
		says string
	}{
		{name: "no New", says: "no New"},
		{name: "no store", says: "disk full", bed: storetest.Bed{New: func() (rollingupgrade.Store, error) { return nil, errors.New("disk full") }}},
		{name: "panic", says: "panic: out of order", bed: storetest.Bed{New: func() (rollingupgrade.Store, error) { return panicking{}, nil }}},
		{name: "no other opening", says: "reopen: gone", bed: func() storetest.Bed {
			b := bedOf(none, true)
			b.Reopen = func(rollingupgrade.Store) (rollingupgrade.Store, error) { return nil, errors.New("gone") }
			return b
		}()},
		{name: "close fails", says: "close: busy", bed: func() storetest.Bed {
			b := bedOf(none, false)
			b.Close = func(rollingupgrade.Store) error { return errors.New("busy") }
			return b
		}()},
		{name: "too slow", says: "longer than", bed: func() storetest.Bed {
			b := bedOf(none, false)
			b.New = func() (rollingupgrade.Store, error) { return slow{newDisk(none).open()}, nil }
			b.Reopen, b.Patience = nil, 50*time.Millisecond
			return b
		}()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := caseOf(t, "save/no rows at first").Check(t.Context(), tt.bed)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
}
