package storetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

// awkward is text that a store must give back as it is: quotes, backslashes, controls, NUL, line ends of all kinds, characters
// that JSON and HTML escape, composed and decomposed letters, characters beyond the basic plane, the replacement character.
const awkward = "'\"`\\ %_*?[](){}$1 :x @y -- /* NULL\x00\x01\x1b\x7f\t\r\n\u0085\u2028\u2029<script>&amp; é e\u0301 ß İ 中文 עברית 🚀👩‍🚀 \ufeff\ufffd "

var timeType = reflect.TypeFor[time.Time]()

// fill sets every field that v reaches to a value of its own, none of them zero, so that one that is
// forgotten or mixed up with another is noticed. Fields that are added to the record later are filled too.
type filler struct {
	n     int
	start time.Time
}

// fill panics on what is not plain data.
func (f *filler) fill(v reflect.Value, path string) {
	f.n++
	switch {
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(f.start.Add(time.Duration(f.n)*time.Minute + time.Duration(f.n))))
		return
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes(fmt.Appendf(nil, `{"path":%q,"n":%d,"large":9007199254740993,"list":[null,true,1.5,"é"],"in":{}}`, path, f.n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if v.Type() == reflect.TypeFor[string]() {
			v.SetString(fmt.Sprintf("%s #%d é中🚀", path, f.n))
		} else { // a word of a list, such as a status
			v.SetString(fmt.Sprintf("%s_%d", v.Type().Name(), f.n))
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(1000 + f.n))
	case reflect.Int64:
		v.SetInt(1<<53 + 1 + 2*int64(f.n)) // what passes through a float64 comes back changed
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for n := range v.Len() {
			f.fill(v.Index(n), path+"."+strconv.Itoa(n))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key, path+" key")
			f.fill(value, path+" value")
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for n := range v.NumField() {
			f.fill(v.Field(n), path+"."+v.Type().Field(n).Name)
		}
	default:
		panic(fmt.Sprintf("storetest: %s is a %s: the record must be plain data", path, v.Type()))
	}
}

// filled returns a T in which every field is set, and differs from that of another seed.
func filled[T any](seed int) T {
	var v T
	f := filler{n: 10_000 * seed, start: time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)}
	f.fill(reflect.ValueOf(&v).Elem(), reflect.TypeFor[T]().Name())
	return v
}

// filledTask returns a task in which every field is set. Only what a store has to understand has its real meaning.
func filledTask(id, group string) *rollingupgrade.Task {
	t := filled[rollingupgrade.Task](1)
	setIdentity(&t.Head, id, group)
	for n := range t.Instances {
		setRow(&t.Instances[n], n)
	}
	return &t
}

func setIdentity(h *rollingupgrade.Head, id, group string) {
	h.Schema, h.ID, h.GroupID, h.Spec.GroupID, h.Version, h.HoldsGroup = rollingupgrade.SchemaVersion, id, group, group, 1, true
	h.Kind, h.Status, h.Phase = rollingupgrade.Rollback, rollingupgrade.StatusRunning, rollingupgrade.Upgrading
}

func setRow(i *rollingupgrade.Instance, pos int) {
	i.ID, i.Pos, i.Status = fmt.Sprintf("i-%04d", pos), pos, rollingupgrade.InstanceRunning
}

// filledEvents returns n events with every field set, from number first on.
func filledEvents(seed int, first int64, n int) []rollingupgrade.Event {
	events := make([]rollingupgrade.Event, n)
	for k := range events {
		events[k] = filled[rollingupgrade.Event](seed + k)
		events[k].Seq = first + int64(k)
	}
	return events
}

// clone returns a copy of v that shares no memory with it.
func clone[T any](v T) T {
	var to T
	copyValue(reflect.ValueOf(&to).Elem(), reflect.ValueOf(&v).Elem())
	return to
}

func copyValue(to, from reflect.Value) {
	switch from.Kind() {
	case reflect.Pointer:
		if !from.IsNil() {
			to.Set(reflect.New(from.Type().Elem()))
			copyValue(to.Elem(), from.Elem())
		}
	case reflect.Slice:
		if !from.IsNil() {
			to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
			for n := range from.Len() {
				copyValue(to.Index(n), from.Index(n))
			}
		}
	case reflect.Map:
		if !from.IsNil() {
			to.Set(reflect.MakeMap(from.Type()))
			for key, value := range from.Seq2() {
				copied := reflect.New(value.Type()).Elem()
				copyValue(copied, value)
				to.SetMapIndex(key, copied)
			}
		}
	case reflect.Struct:
		if from.Type() == timeType {
			to.Set(from)
			return
		}
		for n := range from.NumField() {
			copyValue(to.Field(n), from.Field(n))
		}
	default:
		to.Set(from)
	}
}

// scramble changes, in place, everything that v reaches: elements of slices, entries of maps, what pointers lead to.
func scramble(v any) { scrambleValue(reflect.ValueOf(v)) }

func scrambleValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			scrambleValue(v.Elem())
		}
	case reflect.Slice:
		for n := range v.Len() {
			scrambleValue(v.Index(n))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			changed := reflect.New(v.Type().Elem()).Elem()
			changed.Set(v.MapIndex(key))
			scrambleValue(changed)
			v.SetMapIndex(key, changed)
		}
	case reflect.Struct:
		if v.Type() == timeType {
			if v.CanSet() {
				v.Set(reflect.ValueOf(time.Unix(1, 0).UTC()))
			}
			return
		}
		for n := range v.NumField() {
			scrambleValue(v.Field(n))
		}
	}
	if !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("scrambled")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(-v.Int() - 7)
	case reflect.Uint8: // of a json.RawMessage
		v.SetUint('1') // and it stays JSON
	}
}
