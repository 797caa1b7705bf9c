package rollingupgrade_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

var updateRecords = flag.Bool("update-records", false, "write those files of testdata/records that are not there")

// A kept is a task as a store keeps it. The files of testdata/records are such; one that was released is never changed.
type kept struct {
	Task    *ru.Task                   `json:"task"`
	Events  []ru.Event                 `json:"events"`
	Outputs map[string]provider.Output `json:"outputs,omitempty"`
}

func (k *kept) creation() ru.Creation { return ru.Creation{Task: k.Task, Events: k.Events} }

// keep reads everything that a store keeps of a task.
func keep(ctx context.Context, s ru.Store, id string) (*kept, error) {
	k := &kept{Outputs: map[string]provider.Output{}}
	var err error
	if k.Task, err = s.Load(ctx, id); err != nil {
		return nil, err
	}
	for e, err := range s.Events(ctx, id, 0) {
		if err != nil {
			return nil, err
		}
		k.Events = append(k.Events, e)
	}
	for _, i := range k.Task.Instances {
		o, err := s.Output(ctx, id, i.ID)
		if err == nil {
			k.Outputs[i.ID] = o
		} else if !errors.Is(err, ru.ErrNoOutput) {
			return nil, err
		}
	}
	return k, nil
}

// records are the names of the files of a schema.
func records(t *testing.T, schema int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("testdata/records/schema-%d/*.json", schema))
	if err != nil || len(files) == 0 {
		t.Fatalf("schema %d has no records: %v", schema, err)
	}
	return files
}

// read decodes a file. A field that the types do not have any more is an error: what an old record says must not be dropped.
func read(t *testing.T, file string) (*kept, []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	k := &kept{}
	if err := d.Decode(k); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return k, b
}

// Records of every schema number load: every field has its place, and means the same after it was kept again.
func TestOldRecordsLoad(t *testing.T) {
	for schema := 1; schema <= ru.SchemaVersion; schema++ {
		for _, file := range records(t, schema) {
			t.Run(strings.TrimPrefix(file, "testdata/records/"), func(t *testing.T) {
				k, b := read(t, file)
				if k.Task.Schema != schema {
					t.Errorf("schema %d", k.Task.Schema)
				}
				store := ru.NewMemoryStore()
				if err := store.Create(t.Context(), k.creation()); err != nil {
					t.Fatal(err)
				}
				c := ru.Change{Head: &k.Task.Head, Outputs: k.Outputs}
				c.Head.Version++
				if err := store.Save(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				again, err := keep(t.Context(), store, k.Task.ID)
				if err != nil {
					t.Fatal(err)
				}
				again.Task.Version--
				got, err := json.Marshal(again)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(plain(t, b), plain(t, got)); diff != "" {
					t.Errorf("record (-file +kept again):\n%s", diff)
				}
			})
		}
	}
}

// plain decodes JSON without any types, numbers as they are written.
func plain(t *testing.T, b []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A Runner shows old records, explains them and takes commands for them.
func TestOldRecordsAreUsable(t *testing.T) {
	for _, c := range []struct {
		file string
		want ru.Status // after Cancel or Restore and Run; empty: its leftovers belong to a later task
	}{
		{"pending", ru.StatusCanceled},
		{"at-work", ru.StatusCanceled},
		{"batch-paused", ru.StatusCanceled},
		{"failure-paused", ru.StatusCanceled},
		{"canceled-with-leftovers", ru.StatusCanceled},
		{"rolled-back", ""},
		{"rollback", ru.StatusSucceeded},
		{"script-succeeded", ru.StatusSucceeded},
	} {
		for schema := 1; schema <= ru.SchemaVersion; schema++ {
			file := fmt.Sprintf("testdata/records/schema-%d/%s.json", schema, c.file)
			t.Run(fmt.Sprint(c.file, " of schema ", schema), func(t *testing.T) {
				k, _ := read(t, file)
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					store := ru.NewMemoryStore()
					if err := store.Create(ctx, k.creation()); err != nil {
						t.Fatal(err)
					}
					cloud := fake.Demo(fake.Config{}, 6)
					r, err := ru.New(face(t, cloud), store, ru.Config{})
					if err != nil {
						t.Fatal(err)
					}
					id := k.Task.ID
					e, err := r.Explain(ctx, id)
					if err != nil {
						t.Fatal(err)
					}
					if e.Status != k.Task.Status || len(e.Commands) == 0 {
						t.Errorf("explanation %+v", e)
					}
					n := 0
					for s, err := range r.List(ctx, ru.Filter{GroupID: k.Task.GroupID}) {
						if n++; err != nil || s.ID != id || s.Status != k.Task.Status || s.Progress.Total != k.Task.Progress.Total {
							t.Errorf("listed as %+v, %v", s, err)
						}
					}
					if n != 1 {
						t.Errorf("%d tasks are listed", n)
					}
					if k.Task.Status.Ended() {
						err = r.Restore(ctx, id, ru.RestoreFilter{})
					} else {
						err = r.Cancel(ctx, id, "old record")
					}
					if c.want == "" {
						if !errors.Is(err, ru.ErrNotLatest) {
							t.Errorf("Restore: %v; want ErrNotLatest", err)
						}
						return
					}
					if err == nil {
						err = r.Run(ctx, id)
					}
					if err != nil {
						t.Fatal(err)
					}
					got, err := r.Get(ctx, id)
					if err != nil || got.Status != c.want {
						t.Errorf("task is %s (%s), %v; want %s", got.Status, got.Reason, err, c.want)
					}
				})
			})
		}
	}
}

// A record of an unknown, newer schema is refused by everything that would have to understand it.
func TestNewerRecordsAreRefused(t *testing.T) {
	for _, file := range []string{"pending", "batch-paused", "failure-paused", "canceled-with-leftovers"} {
		t.Run(file, func(t *testing.T) {
			k, _ := read(t, fmt.Sprintf("testdata/records/schema-%d/%s.json", ru.SchemaVersion, file))
			k.Task.Schema = ru.SchemaVersion + 1
			before := k.Task.Version
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := ru.NewMemoryStore()
				if err := store.Create(ctx, k.creation()); err != nil {
					t.Fatal(err)
				}
				r, err := ru.New(face(t, fake.Demo(fake.Config{}, 6)), store, ru.Config{})
				if err != nil {
					t.Fatal(err)
				}
				id := k.Task.ID
				_, get := r.Get(ctx, id)
				_, explain := r.Explain(ctx, id)
				_, rollback := r.Rollback(ctx, id, ru.RollbackSpec{})
				calls := map[string]error{
					"Get": get, "Explain": explain, "Rollback": rollback, "Pause": r.Pause(ctx, id, ""), "Continue": r.Continue(ctx, id),
					"Retry": r.Retry(ctx, id, []string{"i-0001"}), "Skip": r.Skip(ctx, id, []string{"i-0001"}), "Cancel": r.Cancel(ctx, id, ""),
					"Restore": r.Restore(ctx, id, ru.RestoreFilter{}),
				}
				if k.Task.Runnable(time.Now()) {
					calls["Run"] = r.Run(ctx, id)
				}
				for name, err := range calls {
					if !errors.Is(err, ru.ErrNewerSchema) {
						t.Errorf("%s: %v; want ErrNewerSchema", name, err)
					}
				}
				if h, err := store.Head(ctx, id); err != nil || h.Version != before {
					t.Errorf("the record was saved: %+v, %v", h, err)
				}
			})
		})
	}
}

// The records of this schema hold every field there is, so that one that is renamed or moved is noticed. Who adds a field
// adds a record that has it: write a new file, for those that are there were released.
func TestRecordsHoldEveryField(t *testing.T) {
	have := map[string]bool{}
	for _, file := range records(t, ru.SchemaVersion) {
		_, b := read(t, file)
		paths("", plain(t, b), have)
	}
	want := map[string]bool{}
	paths("", plain(t, must(json.Marshal(everyField(t)))), want)
	var missing []string
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if !have[path] {
			missing = append(missing, path)
		}
	}
	if len(missing) > 0 || len(want) < 150 {
		t.Errorf("of %d fields no record holds %s", len(want), strings.Join(missing, ", "))
	}
}

// paths collects the names of all fields below v; what is in maps whose keys are not field names counts by one name.
func paths(at string, v any, to map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			if strings.HasPrefix(name, "text ") { // of everyField
				name = "*"
			}
			to[at+"."+name] = true
			paths(at+"."+name, field, to)
		}
	case []any:
		for _, e := range v {
			paths(at, e, to)
		}
	}
}

// everyField returns a record in which every field is set to something.
func everyField(t *testing.T) *kept {
	t.Helper()
	n := 0
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		n++
		switch {
		case v.Type() == reflect.TypeFor[time.Time]():
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, n, time.UTC)))
			return
		case v.Type() == reflect.TypeFor[json.RawMessage]():
			v.SetBytes(fmt.Appendf(nil, `{"n":%d}`, n))
			return
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString(fmt.Sprint("text ", n))
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0))
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key)
			fill(value)
			v.SetMapIndex(key, value)
		case reflect.Struct:
			for f := range v.NumField() {
				fill(v.Field(f))
			}
		default:
			t.Fatalf("a record cannot hold a %s", v.Type())
		}
	}
	k := &kept{}
	fill(reflect.ValueOf(k).Elem())
	k.Task.Schema, k.Task.ID, k.Task.Version = ru.SchemaVersion, "task-every-field", 7
	k.Events[0].Seq, k.Task.EventSeq = 1, 1
	for id, o := range k.Outputs {
		delete(k.Outputs, id)
		k.Outputs[k.Task.Instances[0].ID] = o
	}
	return k
}
