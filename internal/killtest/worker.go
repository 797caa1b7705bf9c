package killtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// work serves the store until ctx is done, and takes commands meanwhile.
func work(ctx context.Context, s *settings, open Open, out io.Writer) error {
	// The SDK's default chain reads these first.
	err := errors.Join(os.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "any"), os.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret))
	if err != nil {
		return err
	}
	kept, closeStore, err := open(ctx, s.Store)
	if err != nil {
		return err
	}
	j, err := newJournal(kept, s)
	if err != nil {
		return err
	}
	runner, err := newRunner(s, j)
	if err != nil {
		return err
	}
	control := http.NewServeMux()
	control.Handle("/order", answers(func(ctx context.Context, o order) (reply, error) { return carryOut(ctx, runner, o), nil }))
	control.Handle("/list", answers(func(ctx context.Context, _ struct{}) (all []ru.Summary, err error) {
		for t, err := range runner.List(ctx, ru.Filter{}) {
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
		return all, nil
	}))
	control.Handle("/task", answers(func(ctx context.Context, id string) (*ru.Task, error) { return runner.Get(ctx, id) }))
	address, stop, err := serveControl(control)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, address)
	err = runner.Serve(ctx)
	stop()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, closeStore())
}

func newRunner(s *settings, j *journal) (*ru.Runner, error) {
	cloud, err := aliyun.New(aliyun.Config{
		Region: "cn-hangzhou", Endpoints: aliyun.Endpoints{ESS: "http://" + s.Cloud, ECS: "http://" + s.Cloud}, Poll: 100 * time.Millisecond,
		Rates: map[string]aliyun.Rate{"*": {PerSecond: -1}}, Transport: stamper{&http.Transport{MaxIdleConnsPerHost: 64}, s.Name},
	})
	if err != nil {
		return nil, err
	}
	return ru.New(&stamped{cloud, j}, j.store(), ru.Config{
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("process", s.Name),
		Owner:  s.Name, Tasks: s.Tasks, MaxWait: 400 * time.Millisecond,
		Lease: s.Timing.Lease, Renew: s.Timing.Renew, CallLimit: s.Timing.CallLimit, Margin: s.Timing.Margin, Poll: s.Timing.Poll,
		TokenTrust: s.Timing.TokenTrust, Lookup: s.Timing.Lookup, Grace: s.Timing.Grace,
		Backoff: func() backoff.BackOff {
			return backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMultiplier(1.5),
				backoff.WithRandomizationFactor(0), backoff.WithMaxInterval(500*time.Millisecond), backoff.WithMaxElapsedTime(0))
		},
	})
}

// stamped is the provider; each side effect carries what the journal knows of it.
type stamped struct {
	*aliyun.Provider
	journal *journal
}

var (
	_ provider.Provider            = (*stamped)(nil)
	_ provider.Inspector           = (*stamped)(nil)
	_ provider.ConfigurationSetter = (*stamped)(nil)
)

type stampKey struct{}

// A stamp says which side effect a request is for.
type stamp struct {
	call, task string
	lease      int64
}

func (p *stamped) stamp(ctx context.Context, call string) context.Context {
	if call == "" {
		return ctx
	}
	task, lease := p.journal.about(call)
	return context.WithValue(ctx, stampKey{}, stamp{call, task, lease})
}

func callOf(targets []provider.Target) string {
	if len(targets) == 0 {
		return ""
	}
	return targets[0].CallID
}

func (p *stamped) EnterStandby(ctx context.Context, group string, t []provider.Target) ([]provider.Progress, error) {
	return p.Provider.EnterStandby(p.stamp(ctx, callOf(t)), group, t)
}

func (p *stamped) ExitStandby(ctx context.Context, group string, t []provider.Target) ([]provider.Progress, error) {
	return p.Provider.ExitStandby(p.stamp(ctx, callOf(t)), group, t)
}

func (p *stamped) SetProtection(ctx context.Context, group string, t []provider.Target, on bool) ([]provider.Progress, error) {
	return p.Provider.SetProtection(p.stamp(ctx, callOf(t)), group, t, on)
}

func (p *stamped) Start(ctx context.Context, group string, t []provider.Target) ([]provider.Progress, error) {
	return p.Provider.Start(p.stamp(ctx, callOf(t)), group, t)
}

func (p *stamped) Update(ctx context.Context, group string, u provider.Update, t []provider.Target) ([]provider.Progress, error) {
	return p.Provider.Update(p.stamp(ctx, callOf(t)), group, u, t)
}

func (p *stamped) SuspendProcesses(ctx context.Context, group string, all []provider.Process, call string) error {
	return p.Provider.SuspendProcesses(p.stamp(ctx, call), group, all, call)
}

func (p *stamped) ResumeProcesses(ctx context.Context, group string, all []provider.Process, call string) error {
	return p.Provider.ResumeProcesses(p.stamp(ctx, call), group, all, call)
}

func (p *stamped) SetConfigurationImage(ctx context.Context, group string, want provider.Configuration) error {
	return p.Provider.SetConfigurationImage(p.stamp(ctx, p.journal.groupCall(group)), group, want)
}

// A stamper puts the stamp on the request, right before it goes out.
type stamper struct {
	next    http.RoundTripper
	process string
}

// RoundTrip implements [http.RoundTripper].
func (s stamper) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(headerProcess, s.process)
	if st, ok := r.Context().Value(stampKey{}).(stamp); ok {
		r.Header.Set(headerCall, st.call)
		r.Header.Set(headerTask, st.task)
		r.Header.Set(headerLease, strconv.FormatInt(st.lease, 10))
	}
	r.Header.Set(headerSent, strconv.FormatInt(time.Now().UnixNano(), 10))
	return s.next.RoundTrip(r)
}

// An order is a command of the operator.
type order struct {
	Verb     ru.Command // besides those of the table: "create"
	Task     string
	IDs      []string
	Spec     ru.Spec
	Rollback ru.RollbackSpec
	Restore  bool // cancel and restore
	Request  ru.RequestID
}

// A reply is what came of an order.
type reply struct {
	Task  string // of create and roll back
	Error string
	// Illegal says that the status of the task does not allow it, Final that another try is of no use either.
	Illegal, Final bool
}

const commandCreate ru.Command = "create"

func carryOut(ctx context.Context, r *ru.Runner, o order) (a reply) {
	var err error
	var task ru.Summary
	switch o.Verb {
	case commandCreate:
		task, err = r.Create(ctx, o.Spec)
	case ru.CommandRollback:
		task, err = r.Rollback(ctx, o.Task, o.Rollback)
	case ru.CommandContinue:
		err = r.Continue(ctx, o.Task, o.Request)
	case ru.CommandRetry:
		err = r.Retry(ctx, o.Task, o.IDs, o.Request)
	case ru.CommandSkip:
		err = r.Skip(ctx, o.Task, o.IDs, o.Request)
	case ru.CommandCancelInstances:
		err = r.CancelInstances(ctx, o.Task, o.IDs, o.Request)
	case ru.CommandCancel:
		if o.Restore {
			err = r.CancelAndRestore(ctx, o.Task, "enough", ru.RestoreFilter{}, o.Request)
		} else {
			err = r.Cancel(ctx, o.Task, "enough", o.Request)
		}
	case ru.CommandRestore:
		err = r.Restore(ctx, o.Task, ru.RestoreFilter{}, o.Request)
	default:
		err = fmt.Errorf("no verb %q", o.Verb)
	}
	a.Task = task.ID
	if err != nil {
		a.Error = err.Error()
		a.Illegal = errors.Is(err, ru.ErrIllegalCommand)
		a.Final = errors.Is(err, ru.ErrInvalid) || errors.Is(err, ru.ErrRequestMismatch) || errors.Is(err, ru.ErrUnknownInstance) ||
			errors.Is(err, ru.ErrNothingToRollBack) || errors.Is(err, ru.ErrPrecheck)
	}
	return a
}
