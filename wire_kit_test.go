package rollingupgrade_test

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

var wireFlag = flag.Bool("wire", false, "run the tests over provider/aliyun and the stand-in for the wire (fake/openapi), in process")

// A line is how the Runners of a test reach a cloud: its own methods, or with -wire those of provider/aliyun, whose requests a
// stand-in answers from the same cloud.
type line struct {
	cloud *fake.Cloud
	wire  *openapi.Handler // nil without -wire
	// change is what is special about the providers.
	change []func(*aliyun.Config)
}

// lineTo returns a line to a cloud.
func lineTo(t testing.TB, cloud *fake.Cloud) *line {
	if !*wireFlag {
		return &line{cloud: cloud}
	}
	return wireTo(t, cloud, openapi.Config{RequireTLS: true})
}

// wireTo returns a line over the wire, whatever the flag says. When the test ends it demands that the requests were kept apart.
func wireTo(t testing.TB, cloud *fake.Cloud, cfg openapi.Config) *line {
	l := &line{cloud: cloud, wire: openapi.New(cloud, cfg)}
	t.Cleanup(func() {
		for _, m := range l.wire.Mismatches() {
			t.Errorf("a request holds what an earlier one left: %s", m)
		}
		if n := len(l.wire.Requests()); n > 0 {
			overWire.note(t.Name(), n)
		}
	})
	return l
}

// face returns the cloud as a Runner of its own sees it: with -wire each one has a provider of its own, as different programs have.
func (l *line) face(change ...func(*aliyun.Config)) fake.Face {
	if l.wire == nil {
		return l.cloud
	}
	return l.cloud.Front(l.provider(change...))
}

// provider is one more provider at the other end of the wire.
func (l *line) provider(change ...func(*aliyun.Config)) *aliyun.Provider {
	cfg := aliyun.Config{Region: "cn-hangzhou", Transport: l.wire.Transport()}
	withSecret("secret")(&cfg)
	for _, f := range append(slices.Clone(l.change), change...) {
		f(&cfg)
	}
	p, err := aliyun.New(cfg)
	if err != nil {
		panic(err)
	}
	return p
}

// withSecret gives a provider an access key.
func withSecret(secret string) func(*aliyun.Config) {
	return func(cfg *aliyun.Config) {
		cfg.Credential = credentials.NewStaticAKCredentialsProvider("test-key-id", secret)
	}
}

// face is how a Runner reaches a cloud that nothing else is asked of.
func face(t testing.TB, cloud *fake.Cloud) fake.Face { return lineTo(t, cloud).face() }

// through makes requests pass a RoundTripper.
func (l *line) through(wrap func(next http.RoundTripper) http.RoundTripper) func(*aliyun.Config) {
	return func(cfg *aliyun.Config) { cfg.Transport = wrap(cfg.Transport) }
}

// byFace returns what is to be expected of the fake's own methods, or with -wire of provider/aliyun.
func byFace[T any](own, wire T) T {
	if *wireFlag {
		return wire
	}
	return own
}

// joined puts lists together and parts them anew, n in each.
func joined(lists [][]string, n int) [][]string {
	return slices.Collect(slices.Chunk(slices.Concat(lists...), n))
}

// leftOut are the tests that make no sense over the wire, each with the reason. They are printed.
var leftOut = map[string]string{
	"TestS15_OnlyRunningInstancesGoBack/one_whose_disk_is_being_replaced": "an instance that is Running while its disk is being replaced: " +
		"the service replaces disks of Stopped instances only, and provider/aliyun looks at the disks of these only",
}

// leaveOutOnWire leaves a test out that is listed.
func leaveOutOnWire(t testing.TB) {
	if why, listed := leftOut[t.Name()]; listed && *wireFlag {
		overWire.leave(t.Name())
		t.Skip("left out over the wire: " + why)
	}
}

// onlyOnWire skips a test that is about the wire.
func onlyOnWire(t testing.TB) {
	if !*wireFlag {
		t.Skip("with -wire only")
	}
}

// overWire counts what went over the wire and what was left out.
var overWire wireCount

type wireCount struct {
	mu       sync.Mutex
	tests    map[string]bool
	left     map[string]bool
	requests int
}

func (c *wireCount) note(test string, requests int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tests == nil {
		c.tests = make(map[string]bool)
	}
	c.tests[test] = true
	c.requests += requests
}

func (c *wireCount) leave(test string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil {
		c.left = make(map[string]bool)
	}
	c.left[test] = true
}

// report prints what went over the wire and what did not. It reports false for a list that names what does not exist.
func (c *wireCount) report() bool {
	fmt.Printf("over the wire: %d tests and subtests, %d requests\n", len(c.tests), c.requests)
	for _, list := range []map[string]string{leftOut, ownFace} {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			fmt.Printf("not over the wire: %s: %s\n", name, list[name])
		}
	}
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	for _, name := range slices.Sorted(maps.Keys(leftOut)) {
		if whole && !c.left[name] {
			fmt.Printf("FAIL: the list of what is left out names %s, which did not come\n", name)
			return false
		}
	}
	return true
}

func TestMain(m *testing.M) {
	flag.Parse()
	status := m.Run()
	if *wireFlag && !overWire.report() {
		status = 1
	}
	os.Exit(status)
}
