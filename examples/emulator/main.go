// Command emulator serves a stand-in for Auto Scaling and ECS of Alibaba Cloud on loopback, with a scaling group that is
// ready to be upgraded: asg-demo, ten instances behind a load balancer that run img-v1, and a second image, img-v2.
//
//	go run ./examples/emulator
//
// It prints what to type next. The SDKs, the vendor's command-line client and scripts in any language can be tried against it; any access
// key ID is accepted, with the secret of the flag -secret. Nothing is kept when it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "emulator:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	addr, secret, region string
	instances            int
	speed                float64
	fail                 string
	verbose              bool
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("emulator", flag.ContinueOnError)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:18090", "`address` to listen on")
	flags.StringVar(&o.secret, "secret", "secret", "secret of every access key ID")
	flags.StringVar(&o.region, "region", "cn-hangzhou", "region in the lines that are printed; every region is accepted")
	flags.IntVar(&o.instances, "instances", 10, "`number` of instances in the group")
	flags.Float64Var(&o.speed, "speed", 20, "how many times faster than the real cloud; 1 is real time")
	flags.StringVar(&o.fail, "fail", "", "comma-separated `IDs` of instances whose first start and first script fail")
	flags.BoolVar(&o.verbose, "v", false, "print every request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.instances < 1 || o.speed <= 0 || flags.NArg() > 0 {
		return errors.New("-instances and -speed must be positive, and there are no arguments")
	}
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	o.addr = listener.Addr().String()

	server := &http.Server{Handler: newHandler(o, out), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	explain(out, o)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

// newHandler makes the cloud and what answers from it.
func newHandler(o options, out io.Writer) http.Handler {
	cloud := fake.Demo(fake.Config{Speed: o.speed, Script: script, NoLog: true}, o.instances)
	for _, id := range strings.FieldsFunc(o.fail, func(r rune) bool { return r == ',' || r == ' ' }) {
		cloud.SetBehavior(id, fake.Behavior{FailStarts: 1, Scripts: []fake.ScriptResult{{ExitCode: 1, Output: "failed, as asked for by -fail\n"}, {}}})
	}
	cfg := openapi.Config{Secret: o.secret, Explain: true, NoLog: true}
	if o.verbose {
		var mu sync.Mutex
		cfg.Observe = func(r openapi.Request) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintln(out, time.Now().Format(time.TimeOnly), r.Action, r.Status, r.Code, r.Err)
		}
	}
	return openapi.New(cloud, cfg)
}

// script runs nothing: it "prints" where it ran, and ends with the number of a line "exit N".
func script(r fake.ScriptRun) fake.ScriptResult {
	result := fake.ScriptResult{Output: "ran on " + r.InstanceID + "\n"}
	for line := range strings.Lines(r.Script.Content) {
		var n int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "exit %d", &n); err == nil {
			result.ExitCode = n
		}
	}
	return result
}

// explain prints what to type next.
func explain(out io.Writer, o options) {
	if host, _, err := net.SplitHostPort(o.addr); err == nil && !net.ParseIP(host).IsLoopback() {
		fmt.Fprintf(out, "Warning: %s can be reached from other machines.\n\n", o.addr)
	}
	fmt.Fprintf(out, `A stand-in for ESS (%s) and ECS (%s) listens on http://%s, %g times faster than the real cloud.
Group %s has %d instances that run %s; there is also %s.

Upgrade it, in another terminal:

  export ALIBABA_CLOUD_ACCESS_KEY_ID=any ALIBABA_CLOUD_ACCESS_KEY_SECRET=%s
  go run ./examples/aliyun -endpoint %s -group %s -image %s -batches 2

Look at it with the vendor's client:

  aliyun ess DescribeScalingInstances --endpoint %s --insecure --mode AK --access-key-id any --access-key-secret %s \
    --region %s --ScalingGroupId %s --PageSize 50

Ctrl-C ends it; nothing is kept.
`, openapi.VersionESS, openapi.VersionECS, o.addr, o.speed, fake.DemoGroup, o.instances, fake.DemoOldImage, fake.DemoNewImage,
		o.secret, o.addr, fake.DemoGroup, fake.DemoNewImage, o.addr, o.secret, o.region, fake.DemoGroup)
}
