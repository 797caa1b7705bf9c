package rollingupgrade_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Every spec that is not acceptable is refused with the field's name, and nothing is changed.
func TestS7_S9_S10_S11_BadSpecs(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	script := func(change func(*provider.ScriptSpec)) func(*ru.Spec) {
		return func(s *ru.Spec) {
			s.Update, s.Rollback = ru.Script(provider.Shell, "up"), ru.Update{}
			change(s.Update.Script)
		}
	}
	for field, change := range map[string]func(*ru.Spec){
		"Spec.GroupID":                  func(s *ru.Spec) { s.GroupID = "" },
		"Spec.GroupID ":                 func(s *ru.Spec) { s.GroupID = " asg " },
		"Spec.Description":              func(s *ru.Spec) { s.Description = long },
		"Spec.Description ":             func(s *ru.Spec) { s.Description = "a\x00b" },
		"Spec.Description  ":            func(s *ru.Spec) { s.Description = "\xff" },
		"Spec.ClientToken":              func(s *ru.Spec) { s.ClientToken = long },
		"Spec.PlanHash":                 func(s *ru.Spec) { s.PlanHash = long },
		"Spec.Update.Kind":              func(s *ru.Spec) { s.Update = ru.Update{} },
		"Spec.Update.Kind ":             func(s *ru.Spec) { s.Update, s.Rollback = ru.Update{Kind: "nobody's"}, ru.Update{} },
		"Spec.Update.Image":             func(s *ru.Spec) { s.Update.Image = nil },
		"Spec.Update.Image.ImageID":     func(s *ru.Spec) { s.Update = ru.Image("") },
		"Spec.Update.Script":            func(s *ru.Spec) { s.Update.Script = &provider.ScriptSpec{} },
		"Spec.Update.Params":            func(s *ru.Spec) { s.Update.Params = json.RawMessage("{") },
		"Spec.Update.Script.Content":    script(func(s *provider.ScriptSpec) { s.Content = " \n" }),
		"Spec.Update.Script.Content ":   script(func(s *provider.ScriptSpec) { s.Content = "echo \x00" }),
		"Spec.Update.Script.Content  ":  script(func(s *provider.ScriptSpec) { s.Content = long }),
		"Spec.Update.Script.Type":       script(func(s *provider.ScriptSpec) { s.Type = "perl" }),
		"Spec.Update.Script.Timeout":    script(func(s *provider.ScriptSpec) { s.Timeout = time.Second }),
		"Spec.Update.Script.WorkingDir": script(func(s *provider.ScriptSpec) { s.WorkingDir = long }),
		"Spec.Update.Script.User":       script(func(s *provider.ScriptSpec) { s.User = long }),
		"Spec.Update.Script.Parameters": script(func(s *provider.ScriptSpec) { s.Parameters = map[string]string{"": "x"} }),
		"Spec.Rollback.Kind":            func(s *ru.Spec) { s.Rollback = ru.Script(provider.Shell, "x") },
		"Spec.Batches.Count":            func(s *ru.Spec) { s.Batches = ru.BatchSpec{} },
		"Spec.Batches.Count ":           func(s *ru.Spec) { s.Batches = ru.InBatches(math.MinInt) },
		"Spec.Batches.MaxSize":          func(s *ru.Spec) { s.Batches = ru.BatchSpec{MaxSize: math.MaxInt} },
		"Spec.Batches":                  func(s *ru.Spec) { s.Batches.MaxSize = 2 },
		"Spec.Batches.Sizes[0]":         func(s *ru.Spec) { s.Batches = ru.BatchSpec{Sizes: []ru.Size{{}}} },
		"Spec.Batches.Sizes[1]":         func(s *ru.Spec) { s.Batches = ru.BatchSpec{Sizes: []ru.Size{{Instances: 1}, {Percent: 101}}} },
		"Spec.Pause.Mode":               func(s *ru.Spec) { s.Pause.Mode = "sometimes" },
		"Spec.Pause.Limit":              func(s *ru.Spec) { s.Pause.Limit, s.Pause.OnLimit = -1, ru.OnLimitCancel },
		"Spec.Pause.OnLimit":            func(s *ru.Spec) { s.Pause.Limit = time.Hour },
		"Spec.Failure.OnLimit":          func(s *ru.Spec) { s.Failure.Limit, s.Failure.OnLimit = time.Hour, ru.OnLimitContinue },
		"Spec.Failure.PerBatch.Percent": func(s *ru.Spec) { s.Failure.PerBatch.Percent = 101 },
		"Spec.Failure.Total.Instances":  func(s *ru.Spec) { s.Failure.Total.Instances = -1 },
		"Spec.Targets.Include[1]":       func(s *ru.Spec) { s.Targets.Include = []string{"i-0001", "i-0001"} },
		"Spec.Targets.Include[0]":       func(s *ru.Spec) { s.Targets = ru.TargetSpec{Include: []string{"i-0001"}, Exclude: []string{"i-0001"}} },
		"Spec.Targets.Exclude[0]":       func(s *ru.Spec) { s.Targets.Exclude = []string{""} },
		"Spec.MinInService":             func(s *ru.Spec) { s.MinInService = -2 },
		"Spec.MaxInFlight":              func(s *ru.Spec) { s.MaxInFlight = math.MaxInt },
		"Spec.Drain":                    func(s *ru.Spec) { s.Drain = math.MaxInt64 },
		"Spec.Verify.Successes":         func(s *ru.Spec) { s.Verify.Successes = -1 },
		"Spec.Configuration":            func(s *ru.Spec) { s.Configuration = "maybe" },
		"Spec.Timeouts.Update":          func(s *ru.Spec) { s.Timeouts.Update = -time.Second },
	} {
		bubbled(t, strings.TrimSpace(field)+strings.Repeat("'", strings.Count(field, " ")), func(t *testing.T) {
			b := demoBed(t, 4)
			spec := imageSpec(2, change)
			for name, err := range map[string]error{"Create": second(b.r.Create(b.ctx(), spec)), "Plan": second(b.r.Plan(b.ctx(), spec))} {
				if !errors.Is(err, ru.ErrInvalid) || !hasField(err, strings.TrimSpace(field)) {
					t.Errorf("%s: %v, want ErrInvalid that names %s", name, err, field)
				}
				if err != nil && len(err.Error()) > 2000 {
					t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
				}
			}
			if calls := b.cloud.Calls(); len(calls) > 0 {
				t.Errorf("the cloud was asked: %v", calls)
			}
			for s := range b.r.List(b.ctx(), ru.Filter{}) {
				t.Errorf("task %s was created", s.ID)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// hasField reports whether a FieldError about the field is joined in err.
func hasField(err error, field string) bool {
	switch e := err.(type) {
	case *ru.FieldError:
		return e.Field == field
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			if hasField(part, field) {
				return true
			}
		}
	case interface{ Unwrap() error }:
		return hasField(e.Unwrap(), field)
	}
	return false
}

func TestS34_BadCommands(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		before, ctx := b.task(id), b.ctx()
		long := strings.Repeat("x", 100_000)
		for name, c := range map[string]struct{ err, want error }{
			"unknown task":          {b.r.Continue(ctx, "nobody"), ru.ErrTaskNotFound},
			"empty task":            {b.r.Pause(ctx, "", ""), ru.ErrTaskNotFound},
			"run unknown":           {b.r.Run(ctx, "nobody"), ru.ErrTaskNotFound},
			"get unknown":           {second(b.r.Get(ctx, long)), ru.ErrTaskNotFound},
			"explain unknown":       {second(b.r.Explain(ctx, "nobody")), ru.ErrTaskNotFound},
			"output unknown":        {second(b.r.Output(ctx, "nobody", "i")), ru.ErrTaskNotFound},
			"rollback unknown":      {second(b.r.Rollback(ctx, "nobody", ru.RollbackSpec{})), ru.ErrTaskNotFound},
			"plan rollback unknown": {second(b.r.PlanRollback(ctx, "nobody", ru.RollbackSpec{})), ru.ErrTaskNotFound},
			"no instances":          {b.r.Skip(ctx, id, nil), ru.ErrInvalid},
			"unknown instance":      {b.r.Skip(ctx, id, []string{long}), ru.ErrUnknownInstance},
			"one unknown instance":  {b.r.Skip(ctx, id, []string{"i-0003", "i-9"}), ru.ErrUnknownInstance},
			"long request":          {b.r.Continue(ctx, id, ru.RequestID(long)), ru.ErrInvalid},
			"empty request":         {b.r.Continue(ctx, id, ""), ru.ErrInvalid},
			"two requests":          {b.r.Continue(ctx, id, "a", "b"), ru.ErrInvalid},
			"long reason":           {b.r.Cancel(ctx, id, long), ru.ErrInvalid},
			"bad filter":            {b.r.CancelAndRestore(ctx, id, "", ru.RestoreFilter{Kinds: []ru.LeftoverKind{"x"}}), ru.ErrInvalid},
			"bad filter instance":   {b.r.Restore(ctx, id, ru.RestoreFilter{InstanceIDs: []string{""}}), ru.ErrInvalid},
			"bad scope":             {second(b.r.Rollback(ctx, id, ru.RollbackSpec{Scope: "x"})), ru.ErrInvalid},
			"before and update":     {second(b.r.Rollback(ctx, id, ru.RollbackSpec{ToBefore: true, Update: ru.Image("x")})), ru.ErrInvalid},
		} {
			wantError(t, c.err, c.want)
			if c.err != nil && len(c.err.Error()) > 2000 {
				t.Errorf("%s: the error has %d bytes", name, len(c.err.Error()))
			}
		}
		gone, stop := context.WithCancel(ctx)
		stop()
		for _, err := range []error{b.r.Continue(gone, id), b.r.Run(gone, id), second(b.r.Create(gone, imageSpec(2))), second(b.r.Get(gone, id))} {
			wantError(t, err, context.Canceled)
		}
		diff(t, "task", before, b.task(id))
	})
}

func TestN3_N6_NewRefusesSettingsThatCannotWork(t *testing.T) {
	cloud := fake.Demo(fake.Config{}, 1)
	for field, cfg := range map[string]ru.Config{
		"Config.Lease":       {Lease: time.Minute},
		"Config.HookTimeout": {HookTimeout: -1},
		"Config.Parallel":    {Parallel: -1},
		"Config.Tasks":       {Tasks: -1},
		"Config.Owner":       {Owner: strings.Repeat("x", 1000)},
		"Config.Kinds":       {Kinds: map[provider.Kind]provider.Updater{"own": nil}},
		"Config.Kinds ":      {Kinds: map[provider.Kind]provider.Updater{provider.ImageUpdate: cloud}},
	} {
		if _, err := ru.New(cloud, ru.NewMemoryStore(), cfg); !errors.Is(err, ru.ErrInvalid) || !strings.Contains(err.Error(), strings.TrimSpace(field)) {
			t.Errorf("%s: %v, want ErrInvalid that names it", field, err)
		}
	}
	if _, err := ru.New(nil, nil, ru.Config{}); !hasField(err, "p") || !hasField(err, "s") {
		t.Errorf("nils: %v, want both named", err)
	}
}

func TestS34_DelaysOfBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cloud := fake.Demo(fake.Config{}, 2)
		cloud.Inject(fake.Throttle("EnterStandby", 3))
		b := newBed(t, cloud, ru.Config{Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(7 * time.Second) }})
		b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
		if p := cloud.PendingFaults(); len(p) > 0 {
			t.Errorf("faults that did not happen: %v", p)
		}
	})
}

// Neither logs nor events nor errors nor the cloud's call log hold a script.
func TestN7_NoScriptInLogsEventsOrErrors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const secret = "hunter2-very-secret"
		var log bytes.Buffer
		cloud := fake.Demo(fake.Config{}, 4)
		cloud.Inject(fake.Throttle("Update", 1), fake.LoseAnswer("Update", 3))
		b := newBed(t, cloud, ru.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2, func(s *ru.Spec) {
			s.Update = ru.Script(provider.Shell, "echo "+secret)
			s.Update.Script.Parameters = map[string]string{"password": secret}
			s.Rollback = ru.Script(provider.Shell, "undo "+secret)
		}))
		task := b.runTo(id, ru.StatusFailurePaused)
		var texts []string
		for _, e := range b.events(id) {
			texts = append(texts, e.Text)
		}
		texts = append(texts, task.Reason, rowOf(task, "i-0001").Error.Text, task.Explain().Text(ru.English), log.String(), string(rowOf(task, "i-0001").State))
		bad := scriptSpec(2, func(s *ru.Spec) { s.Update = ru.Script("perl", secret) })
		texts = append(texts, second(b.r.Create(b.ctx(), bad)).Error())
		p, err := b.r.PlanRollback(b.ctx(), id, ru.RollbackSpec{})
		b.ok(err)
		texts = append(texts, p.Policy...)
		if log.Len() == 0 {
			t.Error("nothing was logged")
		}
		for _, s := range texts {
			if strings.Contains(s, secret) {
				t.Errorf("holds the script: %s", s)
			}
		}
	})
}

// A look comes before each of these calls, and succeeds: the delays between the calls grow all the same.
func TestS34_DelaysGrowBetweenLooks(t *testing.T) {
	for op, tries := range map[string]int{"EnterStandby": 1, "Update": 2, "ExitStandby": 1} { // the first Update only looks
		for _, class := range []error{provider.ErrThrottled, provider.ErrBusy} {
			bubbled(t, fmt.Sprintf("%s %s", op, class), func(t *testing.T) {
				b := demoBed(t, 2)
				b.cloud.Inject(fake.Fault{Op: op, Target: "i-0001", Nth: tries, Count: 8, Err: class})
				b.runTo(b.create(scriptSpec(2)), ru.StatusSucceeded)
				var at []time.Time
				for _, c := range b.cloud.Calls() {
					if c.Op == op && slices.Contains(c.Targets, "i-0001") && c.CallID != "" {
						at = append(at, c.Start)
					}
				}
				if len(at) != 9 {
					t.Fatalf("%d calls, want 8 in vain and one", len(at))
				}
				for n, delay := 0, time.Second; n < 8; n, delay = n+1, min(delay*3/2, 30*time.Second) {
					if got := at[n+1].Sub(at[n]); got < delay || got > delay+2*time.Second {
						t.Errorf("delay %d is %s, want %s", n+1, got, delay)
					}
				}
			})
		}
	}
}

// The limits of a spec are met exactly.
func TestS34_LimitsOfASpec(t *testing.T) {
	const longest = int(366 * 24 * time.Hour / time.Second)
	text := func(n int) string { return strings.Repeat("x", n) }
	for field, c := range map[string]struct {
		set       func(s *ru.Spec, n int)
		good, bad []int
	}{
		"Spec.MaxInFlight":              {func(s *ru.Spec, n int) { s.MaxInFlight = n }, []int{0, 1_000_000}, []int{-1, 1_000_001}},
		"Spec.Verify.Successes":         {func(s *ru.Spec, n int) { s.Verify.Successes = n }, []int{0, 1_000_000}, []int{-1, 1_000_001}},
		"Spec.Failure.PerBatch.Percent": {func(s *ru.Spec, n int) { s.Failure.PerBatch.Percent = n }, []int{0, 100}, []int{-1, 101}},
		"Spec.Failure.Total.Instances":  {func(s *ru.Spec, n int) { s.Failure.Total.Instances = n }, []int{0, 1_000_000}, []int{-1, 1_000_001}},
		"Spec.Drain":                    {func(s *ru.Spec, n int) { s.Drain = time.Duration(n) * time.Second }, []int{0, longest}, []int{-1, longest + 1}},
		"Spec.Timeouts.Batch":           {func(s *ru.Spec, n int) { s.Timeouts.Batch = time.Duration(n) * time.Second }, []int{0, longest}, []int{-1, longest + 1}},
		"Spec.Pause.Limit": {func(s *ru.Spec, n int) {
			s.Pause.Limit, s.Pause.OnLimit = time.Duration(n)*time.Second, ru.OnLimitCancel
		}, []int{1, longest}, []int{-1, longest + 1}},
		"Spec.Update.Script.Timeout":    {func(s *ru.Spec, n int) { s.Update.Script.Timeout = time.Duration(n) * time.Second }, []int{0, 10, 86400}, []int{-1, 9, 86401}},
		"Spec.Update.Script.Content":    {func(s *ru.Spec, n int) { s.Update.Script.Content = text(n) }, []int{1, ru.MaxScript / 4 * 3}, []int{0, ru.MaxScript/4*3 + 1}},
		"Spec.Update.Script.WorkingDir": {func(s *ru.Spec, n int) { s.Update.Script.WorkingDir = text(n) }, []int{0, 200}, []int{201}},
		"Spec.Update.Script.User":       {func(s *ru.Spec, n int) { s.Update.Script.User = text(n) }, []int{0, 255}, []int{256}},
		"Spec.Update.Script.Parameters": {func(s *ru.Spec, n int) {
			s.Update.Script.Parameters = map[string]string{}
			for k := range n {
				s.Update.Script.Parameters[fmt.Sprint("p", k)] = "v"
			}
		}, []int{0, 10}, []int{11}},
		"Spec.Update.Params":      {func(s *ru.Spec, n int) { s.Update.Params = json.RawMessage(`"` + text(n-2) + `"`) }, []int{2, 64 << 10}, []int{64<<10 + 1}},
		"Spec.Targets.Exclude[0]": {func(s *ru.Spec, n int) { s.Targets.Exclude = []string{text(n)} }, []int{1, 256}, []int{0, 257}},
	} {
		validate := func(n int) error {
			s := scriptSpec(2)
			c.set(&s, n)
			return s.Validate()
		}
		for _, n := range c.good {
			if err := validate(n); err != nil {
				t.Errorf("%s of %d: %v", field, n, err)
			}
		}
		for _, n := range c.bad {
			if err := validate(n); !errors.Is(err, ru.ErrInvalid) || !hasField(err, field) {
				t.Errorf("%s of %d: %v", field, n, err)
			}
		}
	}
}
