package storetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

// leaf is a value without parts, and where it is.
type leaf struct {
	path string
	v    reflect.Value
}

// leaves returns all that v reaches.
func leaves(v reflect.Value, path string) (out []leaf) {
	switch {
	case v.Type() == timeType, v.Type() == reflect.TypeFor[json.RawMessage]():
		return []leaf{{path, v}}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return leaves(v.Elem(), path)
	case v.Kind() == reflect.Slice && v.Len() > 0:
		for n := range v.Len() {
			out = append(out, leaves(v.Index(n), fmt.Sprintf("%s[%d]", path, n))...)
		}
		return out
	case v.Kind() == reflect.Map && v.Len() > 0:
		for key, value := range v.Seq2() {
			out = append(out, leaves(value, fmt.Sprintf("%s[%v]", path, key))...)
		}
		return out
	case v.Kind() == reflect.Struct:
		for n := range v.NumField() {
			out = append(out, leaves(v.Field(n), path+"."+v.Type().Field(n).Name)...)
		}
		return out
	}
	return []leaf{{path, v}}
}

// TestFilledLeavesNothingOut holds that every field of the record has a value, and one of its own.
func TestFilledLeavesNothingOut(t *testing.T) {
	task, head, change := filled[task](1), filled[head](2), filled[change](3)
	for name, v := range map[string]reflect.Value{"task": reflect.ValueOf(task), "head": reflect.ValueOf(head), "change": reflect.ValueOf(change)} {
		seen := map[any]string{}
		all := leaves(v, name)
		if len(all) < 100 {
			t.Errorf("%s has only %d leaves", name, len(all))
		}
		for _, l := range all {
			if l.v.IsZero() {
				t.Errorf("%s is zero", l.path)
			}
			key := fmt.Sprintf("%T %v", l.v.Interface(), l.v.Interface())
			if l.v.Kind() != reflect.Bool && seen[key] != "" {
				t.Errorf("%s has the value of %s: %s", l.path, seen[key], key)
			}
			seen[key] = l.path
		}
	}
}

// TestCopiesShareNothing holds that clone is deep and scramble reaches everything.
func TestCopiesShareNothing(t *testing.T) {
	given := filled[creation](1)
	copied := clone(given)
	if !reflect.DeepEqual(given, copied) {
		t.Fatalf("clone differs: %s", diff(given, copied))
	}
	before := map[string]any{}
	for _, l := range leaves(reflect.ValueOf(clone(given)), "") {
		before[l.path] = l.v.Interface()
	}
	scramble(&given)
	if d := diff(filled[creation](1), copied); d != "" {
		t.Errorf("the copy changed with the original (-want +got):\n%s", d)
	}
	for _, l := range leaves(reflect.ValueOf(given), "") {
		if reflect.DeepEqual(before[l.path], l.v.Interface()) {
			t.Errorf("%s was not scrambled: %v", l.path, l.v)
		}
	}
}

// TestDiffNoticesEveryField changes one leaf after the other.
func TestDiffNoticesEveryField(t *testing.T) {
	n := changeEach[head](t) + changeEach[instance](t) + changeEach[event](t) + changeEach[output](t)
	if n < 200 {
		t.Errorf("only %d fields were changed", n)
	}
}

func changeEach[T any](t *testing.T) (n int) {
	t.Helper()
	want := filled[T](1)
	for k := range leaves(reflect.ValueOf(&want).Elem(), "") {
		got := clone(want)
		l := leaves(reflect.ValueOf(&got).Elem(), "")[k]
		if !l.v.CanSet() {
			continue // an entry of a map
		}
		n++
		scrambleValue(l.v)
		if diff(want, got) == "" {
			t.Errorf("a change of %s is not noticed", l.path)
		}
	}
	return n
}

// TestDiff holds what may differ and what may not.
func TestDiff(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	raw := func(s string) any { return instance{State: json.RawMessage(s)} }
	for _, tt := range []struct {
		name      string
		want, got any
		differ    bool
	}{
		{name: "nil and empty slices", want: head{}, got: head{Sizes: []int{}}},
		{name: "nil and empty maps", want: head{}, got: head{Learned: map[string]rollingupgrade.PhaseTime{}}},
		{name: "nil and a pointer to zero", want: head{}, got: head{Pause: &rollingupgrade.Pause{}}, differ: true},
		{name: "JSON of another form", want: raw(`{"a":1,"b":"<"}`), got: raw("{ \"b\" : \"\\u003c\", \"a\":1 }")},
		{name: "JSON of another value", want: raw(`{"a":9007199254740993}`), got: raw(`{"a":9007199254740992}`), differ: true},
		{name: "JSON and something behind it", want: raw(`1`), got: raw(`1 2`), differ: true},
		{name: "JSON and nothing", want: raw(`{}`), got: raw(``), differ: true},
		{name: "JSON and no JSON", want: raw(`{}`), got: raw(`{`), differ: true},
		{name: "the same instant in another zone", want: event{Time: at}, got: event{Time: at.In(time.FixedZone("UTC", 0))}, differ: true},
		{name: "a time with a monotonic part", want: event{}, got: event{Time: time.Now()}, differ: true},
		{name: "a nanosecond", want: event{Time: at}, got: event{Time: at.Add(1)}, differ: true},
		{name: "the same time", want: event{Time: at}, got: event{Time: at.UTC()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := diff(tt.want, tt.got); (d != "") != tt.differ {
				t.Errorf("differ: %t, want %t\n%s", d != "", tt.differ, d)
			}
		})
	}
}
