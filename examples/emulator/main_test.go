package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// output is what the program has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func TestItServesAndSaysWhatToType(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"-addr", "127.0.0.1:0", "-secret", "s3", "-v"}, &out) }()
	address := regexp.MustCompile(`http://(127\.0\.0\.1:\d+),`)
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(out.String(), "Ctrl-C") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	found := address.FindStringSubmatch(out.String())
	if found == nil {
		t.Fatalf("no address in %s", out.String())
	}
	for _, line := range []string{"ACCESS_KEY_SECRET=s3", "-endpoint " + found[1] + " -group asg-demo -image img-v2 -batches 2", "aliyun ess DescribeScalingInstances --endpoint " + found[1]} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is not in %s", line, out.String())
		}
	}
	resp, err := http.Get("http://" + found[1] + "/?Action=DescribeScalingGroups&Version=2014-08-28")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 400 || !strings.Contains(string(body), `"Code":"MissingParameter"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "DescribeScalingGroups 400 MissingParameter") {
		t.Errorf("the request is not in %s", out.String())
	}
}

func TestItRefusesFlagsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{{"-instances", "0"}, {"-speed", "0"}, {"x"}, {"-addr", "nowhere:x"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
