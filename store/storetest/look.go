package storetest

import (
	"bytes"
	gocmp "cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollingupgrade/rollingupgrade"
)

// kept says what two records have to have in common: the same instants, JSON of the same value, and no
// difference between nil and empty.
var kept = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.FilterValues(func(a, b json.RawMessage) bool { return len(a)+len(b) > 0 }, cmp.Comparer(sameJSON)),
}

// sameJSON reports whether two texts are the same JSON value, numbers by their digits.
func sameJSON(a, b json.RawMessage) bool {
	x, errX := jsonValue(a)
	y, errY := jsonValue(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func jsonValue(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// diff says how two values differ; empty if they do not.
func diff[T any](want, got T) string {
	if !reflect.DeepEqual(want, got) {
		if d := cmp.Diff(want, got, kept); d != "" {
			const limit = 3000
			if len(d) > limit {
				d = strings.ToValidUTF8(d[:limit], "") + "\n..."
			}
			return d
		}
	}
	if at, found := notUTC(reflect.ValueOf(got)); found {
		return "the time at " + at + " is not in UTC, or has a monotonic part\n"
	}
	return ""
}

// notUTC returns the place of a time that is the same instant as it should be, but not the same to ==.
func notUTC(v reflect.Value) (path string, found bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return notUTC(v.Elem())
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k == reflect.Uint8 || k == reflect.String || k == reflect.Int {
			return "", false
		}
		for n := range v.Len() {
			if at, found := notUTC(v.Index(n)); found {
				return fmt.Sprintf("[%d]%s", n, at), true
			}
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			if at, found := notUTC(value); found {
				return fmt.Sprintf("[%v]%s", key, at), true
			}
		}
	case reflect.Struct:
		if v.Type() == timeType {
			t := v.Interface().(time.Time)
			return "", t != t.UTC().Round(0)
		}
		for n := range v.NumField() {
			if at, found := notUTC(v.Field(n)); found {
				return "." + v.Type().Field(n).Name + at, true
			}
		}
	}
	return "", false
}

// load calls Load.
func (k *kit) load(id string) (*task, error) {
	k.begun("Load", id)
	return k.s.Load(k.ctx, id)
}

func (k *kit) mustLoad(id string) *task {
	t, err := k.load(id)
	if err != nil || t == nil {
		k.fatalf("load task %s: record %t, error %v", short(id), t != nil, err)
	}
	return t
}

// head calls Head.
func (k *kit) head(id string) (*head, error) {
	k.begun("Head", id)
	return k.s.Head(k.ctx, id)
}

func (k *kit) mustHead(id string) *head {
	h, err := k.head(id)
	if err != nil || h == nil {
		k.fatalf("head of task %s: record %t, error %v", short(id), h != nil, err)
	}
	return h
}

// events reads all events after a number.
func (k *kit) events(id string, after int64) (got []event, err error) {
	k.begun("Events", id)
	for e, err := range k.s.Events(k.ctx, id, after) {
		if err != nil {
			return got, err
		}
		got = append(got, e)
	}
	return got, nil
}

func (k *kit) mustEvents(id string, after int64) []event {
	got, err := k.events(id, after)
	if err != nil {
		k.fatalf("events of task %s after %d: %v", short(id), after, err)
	}
	return got
}

// output calls Output.
func (k *kit) output(id, instanceID string) (output, error) {
	k.begun("Output", id)
	return k.s.Output(k.ctx, id, instanceID)
}

// list reads all heads that fit.
func (k *kit) list(f filter) (got []*head, err error) {
	k.begun("List", f.GroupID)
	for h, err := range k.s.List(k.ctx, f) {
		if err != nil {
			return got, err
		}
		if h == nil {
			return got, errors.New("a nil head without an error")
		}
		got = append(got, h)
	}
	return got, nil
}

func (k *kit) mustList(f filter) []*head {
	got, err := k.list(f)
	if err != nil {
		k.fatalf("list %+v: %v", f, err)
	}
	return got
}

func ids(heads []*head) []string {
	out := make([]string, len(heads))
	for n, h := range heads {
		out[n] = h.ID
	}
	return out
}

// newestFirst sorts as List does: by CreatedAt, then by ID, both descending.
func newestFirst(heads []*head) {
	slices.SortFunc(heads, func(a, b *head) int {
		return gocmp.Or(b.CreatedAt.Compare(a.CreatedAt), gocmp.Compare(b.ID, a.ID))
	})
}

// same holds that the store keeps exactly what the model says, seen through every method.
func (k *kit) same(when string) {
	k.model.Lock()
	want := maps.Clone(k.want)
	k.model.Unlock()
	var all []*head
	for id, r := range want {
		all = append(all, &r.task.Head)
		k.sameTask(when, id, r)
	}
	newestFirst(all)
	got, err := k.list(filter{})
	if err != nil {
		k.errorf("%s: list all: %v", when, err)
		return
	}
	if d := diff(ids(all), ids(got)); d != "" {
		k.errorf("%s: tasks listed (-want +got):\n%s", when, d)
	} else if d := diff(all, got); d != "" {
		k.errorf("%s: heads listed (-want +got):\n%s", when, d)
	}
}

func (k *kit) sameTask(when, id string, r *record) {
	if k.enough() {
		panic(stop{})
	}
	if len(r.early) > 0 {
		k.errorf("%s: a version of task %s was accepted that follows none", when, short(id))
	}
	if got, err := k.load(id); err != nil || got == nil {
		k.errorf("%s: load task %s: record %t, error %v", when, short(id), got != nil, err)
	} else if d := diff(&r.task, got); d != "" {
		k.errorf("%s: task %s loaded (-want +got):\n%s", when, short(id), d)
	}
	if got, err := k.head(id); err != nil || got == nil {
		k.errorf("%s: head of task %s: record %t, error %v", when, short(id), got != nil, err)
	} else if d := diff(&r.task.Head, got); d != "" {
		k.errorf("%s: head of task %s (-want +got):\n%s", when, short(id), d)
	}
	if got, err := k.events(id, 0); err != nil {
		k.errorf("%s: events of task %s: %v", when, short(id), err)
	} else if d := diff(r.events, got); d != "" {
		k.errorf("%s: events of task %s (-want +got):\n%s", when, short(id), d)
	}
	for i, o := range r.outputs {
		if got, err := k.output(id, i); err != nil {
			k.errorf("%s: output of task %s, instance %s: %v", when, short(id), i, err)
		} else if d := diff(o, got); d != "" {
			k.errorf("%s: output of task %s, instance %s (-want +got):\n%s", when, short(id), i, d)
		}
	}
	looked := 0
	for n := range r.task.Instances {
		i := r.task.Instances[n].ID
		if _, ok := r.outputs[i]; ok || looked == 3 {
			continue
		}
		looked++
		_, err := k.output(id, i)
		k.refused(fmt.Sprintf("%s: output of task %s, instance %s", when, short(id), i), err, rollingupgrade.ErrNoOutput)
	}
}

// absent holds that no method knows a task.
func (k *kit) absent(when, id string) {
	t, err := k.load(id)
	k.refused(when+": Load of "+short(id), err, rollingupgrade.ErrTaskNotFound)
	h, err2 := k.head(id)
	k.refused(when+": Head of "+short(id), err2, rollingupgrade.ErrTaskNotFound)
	if t != nil && err != nil || h != nil && err2 != nil {
		k.errorf("%s: an unknown task has a record", when)
	}
	got, err := k.events(id, 0)
	k.refused(when+": Events of "+short(id), err, rollingupgrade.ErrTaskNotFound)
	if len(got) > 0 {
		k.errorf("%s: task %s is unknown and has %d events", when, short(id), len(got))
	}
	_, err = k.output(id, "i-0000")
	k.refused(when+": Output of "+short(id), err, rollingupgrade.ErrTaskNotFound)
}
