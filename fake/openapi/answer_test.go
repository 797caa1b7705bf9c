package openapi

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

type word string

type shout string

func (s shout) MarshalText() ([]byte, error) { return []byte(s + "!"), nil }

// Answers are what json.Marshal makes of them.
func TestAnswersAreJSON(t *testing.T) {
	for _, v := range []any{
		obj{},
		obj(nil),
		[]obj{},
		[]obj(nil),
		[]obj{{"a": 1}, {}, nil},
		"", "plain", "<a&b> \"q\" \\ \n \x7f 批次 \xff \u2028", word("two words"), word("ä"), shout("hey"),
		true, -7, int64(1) << 60, 1.5, math.MaxFloat32, nil,
		[]string{"a", "ü"},
		[]string(nil), time.Minute, time.Unix(0, 0).UTC(), json.RawMessage(`{"x": [1, 2]}`),
		obj{"b": obj{"z": word("w"), "y": []obj{{"k": nil}}}, "a": []word{"x"}, "é\"": map[string]int{"n": 1}, "B": uint8(3)},
	} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := appendJSON([]byte("x"), v); err != nil || string(got) != "x"+string(want) {
			t.Errorf("%#v: %s, %v, want %s", v, got, err, want)
		}
	}
	if _, err := appendJSON(nil, obj{"a": []obj{{"b": math.NaN()}}}); err == nil {
		t.Error("what is no JSON has no error")
	}
}
