package rollingupgrade

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Whatever is decoded as a record can be looked at without a panic, and what is encoded comes back as it was.
func FuzzTaskJSON(f *testing.F) {
	f.Add([]byte(`{"schema":1,"id":"t","status":"batch_paused","pause":{"why":"policy","since":"2000-01-01T00:00:00Z"},"instances":[{"id":"i","batch":1,"status":"failed"}]}`))
	f.Add([]byte(`{"status":"failure_paused","instances":[{"id":"i","status":"running","step":"updating","call":{"id":"c","op":"Update"}}]}`))
	f.Add([]byte(`{"status":"running","phase":"upgrading","stage":"working","batch":1,"sizes":[1]}`))
	f.Add([]byte(`{"restore":{"since":"2000-01-01T00:00:00Z"},"status":"canceled","ledger":{"ours":["ScaleIn"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var task Task
		if json.Unmarshal(data, &task) != nil {
			return
		}
		task.Explain().Text(Chinese)
		task.Summary()
		for _, l := range task.Leftovers() {
			_ = l.String()
		}
		once, err := json.Marshal(&task)
		if err != nil {
			return // a time that JSON does not know
		}
		var again Task
		if err := json.Unmarshal(once, &again); err != nil {
			t.Fatalf("what was encoded does not decode: %v\n%s", err, once)
		}
		twice, err := json.Marshal(&again)
		if err != nil || string(once) != string(twice) {
			t.Fatalf("%v: a round trip changes the record\n%s\n%s", err, once, twice)
		}
	})
}

// A spec never panics; one that is acceptable can be planned and survives JSON.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"group_id":"g","update":{"kind":"image","image":{"image_id":"m"}},"batches":{"count":2}}`), 5)
	f.Add([]byte(`{"group_id":"g","update":{"kind":"script","script":{"type":"RunShellScript","content":"x"}},"batches":{"sizes":[{"percent":30},{"instances":2}]},"max_in_flight":1}`), 9)
	f.Add([]byte(`{"group_id":"g","update":{"kind":"own","params":{"a":1}},"batches":{"max_size":3},"targets":{"include":["a","b"]}}`), 3)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		var s Spec
		if json.Unmarshal(data, &s) != nil {
			return
		}
		if err := s.Validate(); err != nil {
			var fe *FieldError
			if !errors.Is(err, ErrInvalid) || !errors.As(err, &fe) || fe.Field == "" {
				t.Fatalf("%v names no field", err)
			}
			return
		}
		var members []provider.Instance
		for range max(0, min(n, 50)) {
			members = append(members, provider.Instance{ID: string(rune('a' + len(members))), Lifecycle: provider.InService, Power: provider.Running})
		}
		p := makePlan(&s, Upgrade, nil, view{group: &provider.Group{DesiredCapacity: -1}, members: members})
		seen := map[string]bool{}
		for _, b := range p.Batches {
			for _, id := range b.InstanceIDs {
				if seen[id] {
					t.Fatalf("%s is in two batches", id)
				}
				seen[id] = true
			}
		}
		if len(seen)+len(p.UpToDate)+len(p.Excluded) != len(members) {
			t.Fatalf("%d + %d + %d of %d members are in the plan", len(seen), len(p.UpToDate), len(p.Excluded), len(members))
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Spec
		if err := json.Unmarshal(b, &again); err != nil || again.hash() != s.hash() || reflect.DeepEqual(again, Spec{}) {
			t.Fatalf("the spec does not survive JSON: %v\n%s", err, b)
		}
	})
}
