package sqlstore

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"testing"
)

type serverError string

func (e serverError) Error() string    { return "the server refuses: " + string(e) }
func (e serverError) SQLState() string { return string(e) }

// Only a reason of the server's own says that a save was not carried out; everything else leaves it open, so that the Runner looks.
func TestN2_WhatSaysThatASaveWasNotDone(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{serverError("23505"), true},
		{fmt.Errorf("scan: %w", serverError("40P01")), true},
		{serverError(""), false},
		{driver.ErrBadConn, false},
		{io.EOF, false},
		{errors.New("connection reset by peer"), false},
	} {
		if got := notDone(c.err); got != c.want {
			t.Errorf("notDone(%v) = %v", c.err, got)
		}
	}
}

func TestArraysOfText(t *testing.T) {
	keys, records := arrays([]pair{{"a", `{"x":"\n"}`}, {int64(7), ""}, {`b,"}\`, "NULL"}})
	if want := `{"a","7","b,\"}\\"}`; keys != want {
		t.Errorf("keys are %s, want %s", keys, want)
	}
	if want := `{"{\"x\":\"\\n\"}","","NULL"}`; records != want {
		t.Errorf("records are %s, want %s", records, want)
	}
}
