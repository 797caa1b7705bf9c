package rollingupgrade_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// recorded returns a store with the task of a file of testdata/records.
func recorded(t *testing.T, file string) (*ru.MemoryStore, string) {
	t.Helper()
	k, _ := read(t, file)
	s := ru.NewMemoryStore()
	if err := s.Create(t.Context(), k.creation()); err != nil {
		t.Fatal(err)
	}
	k.Task.Version++
	if err := s.Save(t.Context(), ru.Change{Head: &k.Task.Head, Outputs: k.Outputs}); err != nil {
		t.Fatal(err)
	}
	return s, k.Task.ID
}

// exported decodes an export. A field that the types do not have is an error.
func exported(t *testing.T, b []byte) *ru.Record {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	r := &ru.Record{}
	if err := d.Decode(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// What is exported decodes to what is kept, field by field, for every record there is.
func TestS32_S35_ExportRoundTrip(t *testing.T) {
	for _, file := range records(t, ru.SchemaVersion) {
		t.Run(file, func(t *testing.T) {
			s, id := recorded(t, file)
			var out bytes.Buffer
			if err := pruner(t, s).Export(t.Context(), id, &out); err != nil {
				t.Fatal(err)
			}
			want, err := keep(t.Context(), s, id)
			if err != nil {
				t.Fatal(err)
			}
			got := exported(t, out.Bytes())
			if d := cmp.Diff(&ru.Record{Export: ru.ExportVersion, Task: want.Task, Events: want.Events, Outputs: want.Outputs}, got); d != "" {
				t.Errorf("export (-kept +exported):\n%s", d)
			}
			if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 || out.Bytes()[out.Len()-1] != '\n' {
				t.Errorf("%d line ends; want one, at the end", n)
			}
		})
	}
}

// The form of an export does not change by itself.
func TestExportGolden(t *testing.T) {
	const file = "testdata/export.json"
	s, id := recorded(t, "testdata/records/schema-1/every-field.json")
	var out bytes.Buffer
	if err := pruner(t, s).Export(t.Context(), id, &out); err != nil {
		t.Fatal(err)
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// A real task with outputs, and events that others add meanwhile.
func TestS32_ExportOfScripts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(scriptSpec(2))
		if err := b.r.Run(b.ctx(), id); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := b.r.Export(b.ctx(), id, &out); err != nil {
			t.Fatal(err)
		}
		got := exported(t, out.Bytes())
		if len(got.Outputs) != 3 || len(got.Task.Instances) != 3 || got.Task.Spec.Update.Script.Content != "up" {
			t.Errorf("exported %d outputs and %d instances of the script %+v", len(got.Outputs), len(got.Task.Instances), got.Task.Spec.Update.Script)
		}
		last := got.Events[len(got.Events)-1]
		if last.Seq != got.Task.EventSeq || int(last.Seq) != len(got.Events) {
			t.Errorf("%d events up to number %d; the task has %d", len(got.Events), last.Seq, got.Task.EventSeq)
		}
	})
}

// A meddler is a store in which something happens after the record was loaded.
type meddler struct {
	*ru.MemoryStore
	loaded func(*ru.Task)
	output error
}

func (m *meddler) Load(ctx context.Context, id string) (*ru.Task, error) {
	t, err := m.MemoryStore.Load(ctx, id)
	if err == nil && m.loaded != nil {
		m.loaded(t)
	}
	return t, err
}

func (m *meddler) Output(ctx context.Context, id, instanceID string) (provider.Output, error) {
	if m.output != nil {
		return provider.Output{}, m.output
	}
	return m.MemoryStore.Output(ctx, id, instanceID)
}

// failing is a writer whose disk is full after so many bytes.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Write(b []byte) (int, error) {
	if len(b) > f.left {
		return f.left, errFull
	}
	f.left -= len(b)
	return len(b), nil
}

func TestExportDisturbed(t *testing.T) {
	const file = "testdata/records/schema-1/script-succeeded.json"
	export := func(t *testing.T, s ru.Store, id string) (*bytes.Buffer, error) {
		r, err := ru.New(fake.Demo(fake.Config{}, 2), s, ru.Config{})
		if err != nil {
			t.Fatal(err)
		}
		out := &bytes.Buffer{}
		return out, r.Export(t.Context(), id, out)
	}
	t.Run("saved meanwhile", func(t *testing.T) {
		s, id := recorded(t, file)
		m := &meddler{MemoryStore: s, loaded: func(t0 *ru.Task) {
			h := t0.Head
			h.Version++
			h.EventSeq++
			if err := s.Save(t.Context(), ru.Change{Head: &h, Events: []ru.Event{{Seq: h.EventSeq, Text: "later"}}}); err != nil {
				t.Fatal(err)
			}
		}}
		out, err := export(t, m, id)
		if err != nil {
			t.Fatal(err)
		}
		if got := exported(t, out.Bytes()); int64(len(got.Events)) != got.Task.EventSeq {
			t.Errorf("%d events with a task that has %d", len(got.Events), got.Task.EventSeq)
		}
	})
	t.Run("pruned meanwhile", func(t *testing.T) {
		s, id := recorded(t, file)
		m := &meddler{MemoryStore: s, loaded: func(t0 *ru.Task) {
			if err := s.Delete(t.Context(), id, t0.Version); err != nil {
				t.Fatal(err)
			}
		}}
		out, err := export(t, m, id)
		if !errors.Is(err, ru.ErrTaskNotFound) || json.Valid(out.Bytes()) {
			t.Errorf("error %v; a whole document: %t", err, json.Valid(out.Bytes()))
		}
	})
	t.Run("output cannot be read", func(t *testing.T) {
		s, id := recorded(t, file)
		broken := errors.New("connection lost")
		out, err := export(t, &meddler{MemoryStore: s, output: broken}, id)
		if !errors.Is(err, broken) || json.Valid(out.Bytes()) {
			t.Errorf("error %v; a whole document: %t", err, json.Valid(out.Bytes()))
		}
	})
	t.Run("unknown task", func(t *testing.T) {
		s, _ := recorded(t, file)
		out, err := export(t, s, "task-?")
		if !errors.Is(err, ru.ErrTaskNotFound) || out.Len() > 0 {
			t.Errorf("error %v; %d bytes written", err, out.Len())
		}
	})
	t.Run("newer schema", func(t *testing.T) {
		s, id := recorded(t, file)
		out, err := export(t, &meddler{MemoryStore: s, loaded: func(t0 *ru.Task) { t0.Schema++ }}, id)
		if !errors.Is(err, ru.ErrNewerSchema) || out.Len() > 0 {
			t.Errorf("error %v; %d bytes written", err, out.Len())
		}
	})
	t.Run("disk full", func(t *testing.T) {
		s, id := recorded(t, file)
		whole, err := export(t, s, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, room := range []int{0, 1, whole.Len() / 2, whole.Len() - 1} {
			if err := pruner(t, s).Export(t.Context(), id, &failing{room}); !errors.Is(err, errFull) {
				t.Errorf("room for %d bytes: %v", room, err)
			}
		}
		if err := pruner(t, s).Export(t.Context(), id, &failing{whole.Len()}); err != nil {
			t.Error(err)
		}
	})
}
