package killtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// childVariable tells the test binary what it is to be, and with which settings.
const childVariable = "ROLLINGUPGRADE_KILLTEST"

// settings are what the processes of one round share, and what one of them is to be.
type settings struct {
	Role              string // "cloud" or "worker"
	Name              string
	Seed              uint64
	Groups, Instances int
	Forget            bool // the cloud forgets client tokens soon
	Timing            Timing
	Tasks             int // a worker's Config.Tasks
	Store             string
	Cloud             string // its address
	Journal           string // a worker's file
}

// Timing is a Runner's Config, as far as it is about time.
type Timing struct {
	Lease, Renew, CallLimit, Margin, Poll, TokenTrust, Lookup, Grace time.Duration
}

// Open opens the store of an address in this process.
type Open func(ctx context.Context, address string) (store ru.Store, closeStore func() error, err error)

// Child is what this process has been started for, if the rig has started it: then it reports true when that is over. A test
// binary calls it first in TestMain.
func Child(open Open) bool {
	text := os.Getenv(childVariable)
	if text == "" {
		return false
	}
	//nolint:forbidigo // the root of a process
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	orphan := make(chan struct{})
	go func() { // the parent holds the other end
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(orphan)
	}()
	go func() {
		<-orphan
		os.Exit(3)
	}()
	var s settings
	err := json.Unmarshal([]byte(text), &s)
	switch {
	case err != nil:
	case s.Role == "cloud":
		err = serveCloud(ctx, &s, os.Stdout)
	case s.Role == "worker":
		err = work(ctx, &s, open, os.Stdout)
	default:
		err = fmt.Errorf("no role %q", s.Role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "killtest child:", s.Name, err)
		os.Exit(1)
	}
	return true
}

// A process is a child from the parent's side.
type process struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.Closer
	address string        // of its control
	said    string        // the rest of its first line
	ended   chan struct{} // closed when it is gone
	err     error         // how it ended
}

// startProcess starts the test binary as a child and waits for its first line: the address of its control, and maybe more.
func startProcess(ctx context.Context, s settings, log io.Writer) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	p := &process{name: s.Name, cmd: exec.CommandContext(ctx, self), ended: make(chan struct{})} //nolint:gosec // itself
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	p.cmd.Stderr = log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	slow := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	slow.Stop()
	p.address, p.said, _ = strings.Cut(strings.TrimSpace(line), " ")
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if err != nil {
		_ = p.cmd.Process.Kill()
		<-p.ended
		return nil, fmt.Errorf("%s said nothing: %w (%w)", s.Name, err, errors.Join(p.err, context.Cause(ctx)))
	}
	return p, nil
}

// end ends a process at once.
func (p *process) end() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// serveControl serves handler on a port of its own until stop is called.
func serveControl(handler http.Handler) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // it ends with stop
	return listener.Addr().String(), func() { _ = server.Close() }, nil
}

// ask asks a control: JSON there and back.
func ask(ctx context.Context, limit time.Duration, address, path string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("%s: %s %s", path, resp.Status, text)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// answers makes a handler of a function from JSON to JSON.
func answers[Q, A any](f func(ctx context.Context, q Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		err := json.NewDecoder(r.Body).Decode(&q)
		var a A
		if err == nil {
			a, err = f(r.Context(), q)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(a)
	}
}
