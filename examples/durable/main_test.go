package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestMain lets the test binary be the worker, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "work" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestKilledUntilDone(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-life", "800ms", "-speed", "400", "-seed", "7", "-dir", t.TempDir()}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	last := regexp.MustCompile(`(\d+) kills; 10 instances were given the new image, 0 of them twice; calls that should not have been: 0\n$`).FindStringSubmatch(out.String())
	if last == nil {
		t.Fatalf("printed %s", out.String())
	}
	if n, _ := strconv.Atoi(last[1]); n < 2 || !strings.Contains(out.String(), "killed; the next one goes on") {
		t.Errorf("only %s kills", last[1])
	}
	if !strings.Contains(out.String(), "succeeded") {
		t.Errorf("printed %s", out.String())
	}
}

func TestFlags(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-nonsense"}, &out); err == nil {
		t.Error("an unknown flag is accepted")
	}
	if err := run(t.Context(), []string{"-dir", "/dev/null/x", "-life", "1s"}, &out); err == nil || errors.Is(err, os.ErrExist) {
		t.Errorf("a folder that cannot be: %v", err)
	}
}
