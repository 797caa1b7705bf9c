package rollingupgrade_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// A deleter is a store whose Delete is changed by the test.
type deleter struct {
	*ru.MemoryStore
	before func(id string)
	after  func(id string, err error) error
}

func (d *deleter) Delete(ctx context.Context, id string, version int64) error {
	if d.before != nil {
		d.before(id)
	}
	err := d.MemoryStore.Delete(ctx, id, version)
	if d.after != nil {
		err = d.after(id, err)
	}
	return err
}

// What becomes of a Prune that others disturb, or whose store fails.
func TestPruneDisturbed(t *testing.T) {
	broken := errors.New("connection lost")
	five := []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "x", group: "other", ago: day}, {id: "c", ago: day}, {id: "y", group: "other", ago: day}}
	for _, tt := range []struct {
		name    string
		disturb func(t *testing.T, d *deleter)
		want    string
		err     error
		left    string
	}{
		{name: "saved meanwhile", want: "x", left: "a b c y", disturb: func(t *testing.T, d *deleter) {
			d.before = func(id string) {
				if id == "a" {
					h, err := d.Head(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					h.Version++
					if err := d.Save(t.Context(), ru.Change{Head: h}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}},
		{name: "deleted meanwhile", want: "a b x", left: "c y", disturb: func(_ *testing.T, d *deleter) {
			d.before = func(id string) {
				if id == "a" {
					d.MemoryStore.Delete(t.Context(), id, 1)
				}
			}
		}},
		{name: "answer lost", want: "a b x", left: "c y", disturb: func(_ *testing.T, d *deleter) {
			d.after = func(id string, err error) error { return broken }
		}},
		{name: "store fails", want: "a", left: "b x c y", err: broken, disturb: func(_ *testing.T, d *deleter) {
			d.after = func(id string, err error) error {
				if id == "b" {
					d.Create(t.Context(), ru.Creation{Task: &ru.Task{Head: ru.Head{ID: "b", GroupID: "g", CreatedAt: time.Now().UTC().Add(-999 * time.Hour)}}}) // as if it had not been deleted
					return broken
				}
				return err
			}
		}},
	} {
		bubbled(t, tt.name, func(t *testing.T) {
			d := &deleter{MemoryStore: history(t, five...)}
			tt.disturb(t, d)
			got, err := pruner(t, d).Prune(t.Context(), ru.PrunePolicy{OlderThan: 1})
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if d := cmp.Diff(strings.Fields(tt.want), got); d != "" {
				t.Errorf("pruned (-want +got):\n%s", d)
			}
			if d := cmp.Diff(strings.Fields(tt.left), left(t, d)); d != "" {
				t.Errorf("left (-want +got):\n%s", d)
			}
		})
	}
}

func TestPruneRefuses(t *testing.T) {
	s := ru.NewMemoryStore()
	for _, tt := range []struct {
		name   string
		store  ru.Store
		policy ru.PrunePolicy
		want   error
		field  string
	}{
		{name: "empty policy", store: s, want: ru.ErrInvalid, field: "PrunePolicy"},
		{name: "group alone", store: s, policy: ru.PrunePolicy{GroupID: "g"}, want: ru.ErrInvalid, field: "PrunePolicy"},
		{name: "negative age", store: s, policy: ru.PrunePolicy{OlderThan: -1}, want: ru.ErrInvalid, field: "PrunePolicy.OlderThan"},
		{name: "negative count", store: s, policy: ru.PrunePolicy{Keep: -1}, want: ru.ErrInvalid, field: "PrunePolicy.Keep"},
		{name: "odd group", store: s, policy: ru.PrunePolicy{Keep: 1, GroupID: " "}, want: ru.ErrInvalid, field: "PrunePolicy.GroupID"},
		{name: "store that cannot", store: struct{ ru.Store }{s}, policy: ru.PrunePolicy{Keep: 1}, want: errors.ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pruner(t, tt.store).Prune(t.Context(), tt.policy)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			var f *ru.FieldError
			if tt.field != "" && (!errors.As(err, &f) || f.Field != tt.field) {
				t.Errorf("error %v names another field than %s", err, tt.field)
			}
		})
	}
}
