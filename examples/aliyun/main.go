// Command aliyun upgrades a scaling group of Alibaba Cloud, and asks where a person has to decide.
//
//	go run ./examples/aliyun -region cn-hangzhou -group asg-... -image m-... -batches 3 -plan
//	go run ./examples/aliyun -region cn-hangzhou -group asg-... -image m-... -batches 3
//	go run ./examples/aliyun -region cn-hangzhou -group asg-... -script fix.sh -pause every
//	go run ./examples/aliyun -region cn-hangzhou -group asg-...              goes on with a task that has not ended
//	go run ./examples/aliyun -region cn-hangzhou -group asg-... -rollback    rolls the last task back
//
// Nothing is changed before the plan has been shown and agreed to. The task is kept in the file of the flag -store: after Ctrl-C or a crash
// the same command without an update goes on with it. Credentials come from the SDK's default chain (the environment variables
// ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, the command-line client's profile, the role of the instance).
// With -endpoint it works on a stand-in, see examples/emulator.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "aliyun: stopped; the task is kept and goes on with the same command without -image and -script")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "aliyun:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	region, group, endpoint, store string
	image, script                  string
	backImage, backScript          string
	batches                        int
	pause, description, lang       string
	plan, rollback, yes            bool
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("aliyun", flag.ContinueOnError)
	f.StringVar(&o.region, "region", "cn-hangzhou", "region of the group")
	f.StringVar(&o.group, "group", "", "`ID` of the scaling group")
	f.StringVar(&o.image, "image", "", "`ID` of the image that the instances shall run")
	f.StringVar(&o.script, "script", "", "`file` with the script that they shall run instead: .sh, .bat or .ps1")
	f.StringVar(&o.backImage, "back-image", "", "`ID` of the image for a rollback")
	f.StringVar(&o.backScript, "back-script", "", "`file` with the script for a rollback")
	f.IntVar(&o.batches, "batches", 2, "`number` of batches")
	f.StringVar(&o.pause, "pause", "first", "where to ask before going on: never, first (batch), every (batch)")
	f.StringVar(&o.description, "description", "", "free `text` for later tracing")
	f.BoolVar(&o.plan, "plan", false, "show what would be done, and do nothing")
	f.BoolVar(&o.rollback, "rollback", false, "roll the group's last task back")
	f.BoolVar(&o.yes, "yes", false, "do not ask before the start")
	f.StringVar(&o.store, "store", "rollingupgrade.db", "`file` that keeps the tasks")
	f.StringVar(&o.endpoint, "endpoint", "", "`host:port` of a stand-in for the cloud, over HTTP without encryption")
	f.StringVar(&o.lang, "lang", "en", "language of what to decide: en or zh")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.group == "":
		return o, errors.New("-group is missing")
	case o.image != "" && o.script != "":
		return o, errors.New("-image and -script exclude each other")
	case o.rollback && (o.image != "" || o.script != ""):
		return o, errors.New("-rollback takes -back-image or -back-script, or what the task was created with")
	}
	return o, nil
}

// run does what the flags say; in gives the answers to what it asks.
func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	cfg := aliyun.Config{Region: o.region, UserAgent: "rollingupgrade-example"}
	if o.endpoint != "" {
		cfg.Endpoints = aliyun.Endpoints{ESS: "http://" + o.endpoint, ECS: "http://" + o.endpoint}
		cfg.Poll = 200 * time.Millisecond // it is faster than the real cloud
	}
	cloud, err := aliyun.New(cfg)
	if err != nil {
		return err
	}
	store, err := boltstore.Open(o.store, boltstore.Options{Timeout: time.Second})
	if errors.Is(err, boltstore.ErrLocked) {
		return fmt.Errorf("another process works with %s: %w", o.store, err)
	}
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // what was saved is on the disk
	runner, err := ru.New(cloud, store, ru.Config{})
	if err != nil {
		return err
	}
	op := newOperator(runner, in, out, o.lang)
	id, err := choose(ctx, o, runner, op)
	if err != nil || id == "" {
		return err
	}
	return op.drive(ctx, id)
}

// choose returns the task to work on: the group's unfinished one, or a new one that was agreed to. It returns "" if there is nothing to do.
func choose(ctx context.Context, o options, r *ru.Runner, op *operator) (string, error) {
	last, err := lastTask(ctx, r, o.group)
	if err != nil {
		return "", err
	}
	unfinished := last.ID != "" && (!last.Status.Ended() || last.Restoring)
	switch {
	case o.rollback && last.ID == "":
		return "", fmt.Errorf("%s keeps no task of group %s", o.store, o.group)
	case o.rollback:
		return rollBack(ctx, o, last.ID, r, op)
	case unfinished && !o.plan:
		if o.image != "" || o.script != "" {
			return "", fmt.Errorf("task %s of the group has not ended (%s): go on with it without -image and -script", last.ID, last.Status)
		}
		op.say("going on with task %s", "继续任务 %s", last.ID)
		return last.ID, nil
	}
	spec, err := o.spec()
	if err != nil {
		return "", err
	}
	plan, err := r.Plan(ctx, spec)
	if err != nil {
		return "", err
	}
	if agreed, err := op.agree(ctx, plan, o); !agreed || err != nil {
		return "", err
	}
	spec.PlanHash = plan.Hash // what was agreed to, or nothing
	task, err := r.Create(ctx, spec)
	return task.ID, err
}

func rollBack(ctx context.Context, o options, source string, r *ru.Runner, op *operator) (string, error) {
	update, err := o.update(o.backImage, o.backScript)
	if err != nil {
		return "", err
	}
	spec := ru.RollbackSpec{Description: o.description, Update: update, Pause: o.policy()}
	plan, err := r.PlanRollback(ctx, source, spec)
	if err != nil {
		return "", err
	}
	if agreed, err := op.agree(ctx, plan, o); !agreed || err != nil {
		return "", err
	}
	spec.PlanHash = plan.Hash
	task, err := r.Rollback(ctx, source, spec)
	return task.ID, err
}

// lastTask is the newest task of the group; its ID is empty if there is none.
func lastTask(ctx context.Context, r *ru.Runner, group string) (last ru.Summary, err error) {
	for t, err := range r.List(ctx, ru.Filter{GroupID: group}) {
		if err != nil {
			return last, err
		}
		if t.NextID == "" {
			return t, nil
		}
	}
	return last, nil
}

// spec is the task that the flags ask for.
func (o *options) spec() (ru.Spec, error) {
	if o.image == "" && o.script == "" {
		return ru.Spec{}, fmt.Errorf("group %s has no unfinished task in %s: -image or -script says what to do", o.group, o.store)
	}
	update, err := o.update(o.image, o.script)
	if err != nil {
		return ru.Spec{}, err
	}
	back, err := o.update(o.backImage, o.backScript)
	return ru.Spec{
		GroupID: o.group, Description: o.description, Update: update, Rollback: back,
		Batches: ru.InBatches(o.batches), Pause: o.policy(),
	}, err
}

func (o *options) policy() ru.PausePolicy {
	modes := map[string]ru.PauseMode{"never": ru.PauseNever, "first": ru.PauseFirstBatch, "every": ru.PauseEveryBatch}
	if mode, ok := modes[o.pause]; ok {
		return ru.PausePolicy{Mode: mode}
	}
	return ru.PausePolicy{Mode: ru.PauseMode(o.pause)} // refused with the words that are accepted
}

// update is an image or the script in a file; neither is the zero Update.
func (o *options) update(image, file string) (ru.Update, error) {
	if file == "" {
		if image == "" {
			return ru.Update{}, nil
		}
		return ru.Image(image), nil
	}
	types := map[string]provider.ScriptType{".sh": provider.Shell, ".bat": provider.Bat, ".ps1": provider.PowerShell}
	kind, ok := types[strings.ToLower(filepath.Ext(file))]
	if !ok {
		return ru.Update{}, fmt.Errorf("%s: a script's name ends in .sh, .bat or .ps1", file)
	}
	content, err := os.ReadFile(file) //nolint:gosec // it is what the flag is for
	return ru.Script(kind, string(content)), err
}
