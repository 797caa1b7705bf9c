// Command durable shows that a task outlives its process: it upgrades ten instances in a process that is killed every few seconds
// until the upgrade is done.
//
//	go run ./examples/durable
//
// The cloud is a stand-in within this process; the one that works on it is this program once more, with a store in a file
// (tasks.db in the folder of the flag -dir, by default a temporary one) and the provider for Alibaba Cloud. See worker.go for
// what a program of your own looks like.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if len(os.Args) == 4 && os.Args[1] == "work" {
		err = work(ctx, os.Args[2], os.Args[3], os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "durable:", err)
		os.Exit(1)
	}
}

// run serves the cloud and kills workers until one of them has come to the end.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("durable", flag.ContinueOnError)
	dir := flags.String("dir", "", "`folder` for tasks.db; empty means a temporary one")
	life := flags.Duration("life", 3*time.Second, "how long a worker lives at most, after its first line; each one a little longer than the one before")
	speed := flags.Float64("speed", 30, "how many times faster than the real cloud")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "decides when workers are killed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		temp, err := os.MkdirTemp("", "durable")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp) //nolint:errcheck // it is temporary
		*dir = temp
	}
	cloud := fake.Demo(fake.Config{Speed: *speed}, 10)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: openapi.New(cloud, openapi.Config{Secret: secret, NoLog: true}), ReadHeaderTimeout: 10 * time.Second}
	defer server.Close()      //nolint:errcheck // nothing is kept
	go server.Serve(listener) //nolint:errcheck // it ends when the program does

	chance := rand.New(rand.NewPCG(*seed, 0)) //nolint:gosec // it only decides when to kill
	kills := 0
	for ; ; *life += *life / 10 { // on a machine that is too slow for short lives it comes to an end too
		killed, err := worker(ctx, listener.Addr().String(), filepath.Join(*dir, "tasks.db"), *life/3+time.Duration(chance.Int64N(int64(*life)*2/3+1)), out)
		if err != nil {
			return err
		}
		if !killed {
			break
		}
		kills++
		fmt.Fprintln(out, "      killed; the next one goes on")
	}
	replaced := map[string]int{}
	for _, e := range cloud.Effects() {
		if e.Action == "ReplaceSystemDisk" {
			replaced[e.InstanceID]++
		}
	}
	twice := 0
	for _, n := range replaced {
		if n > 1 {
			twice++
		}
	}
	fmt.Fprintf(out, "%d kills; %d instances were given the new image, %d of them twice; calls that should not have been: %d\n", kills, len(replaced), twice, len(cloud.Violations()))
	return nil
}

// worker runs this program as a worker for so long after its first line, and kills it then. It reports false if the worker came to the end before.
func worker(ctx context.Context, address, file string, life time.Duration, out io.Writer) (killed bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, self, "work", address, file) //nolint:gosec // itself
	cmd.Stderr = os.Stderr
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	killer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // SIGKILL: nothing is put in order before
	read := bufio.NewScanner(lines)
	for first := true; read.Scan(); first = false {
		if first {
			killer.Reset(life)
		}
		fmt.Fprintf(out, "%5d %s\n", cmd.Process.Pid, read.Text())
	}
	err = cmd.Wait()
	switch early := killer.Stop(); {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err == nil:
		return false, nil
	case early:
		return false, fmt.Errorf("worker: %w", err)
	}
	return true, nil
}
