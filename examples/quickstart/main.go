// Command quickstart is a rolling upgrade from its plan to its rollback, on a cloud in memory:
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -lang zh
//
// Ten instances get another image in two batches. The task pauses after the first batch, meets a failure in the second one, ends
// well after a retry, and is rolled back. It needs no account and nothing installed, and takes a few seconds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

func main() {
	lang := flag.String("lang", "", "language of the texts, en or zh (default: as LANG says)")
	plain := flag.Bool("plain", false, "write plain lines to a terminal too")
	flag.Parse()
	s := newScreen(os.Stdout, language(*lang, os.Getenv), !*plain && terminal(os.Stdout))
	if err := run(context.Background(), s); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run is the whole story; what it says goes to s.
func run(ctx context.Context, s *screen) error {
	// A scaling group of ten instances that run img-v1. This cloud is some hundred times as fast as a real one. The
	// new disk of i-0008 will not come up the first time.
	cloud := fake.Demo(fake.Config{Speed: 450, Seed: 3, Jitter: 0.6}, 10)
	cloud.SetBehavior("i-0008", fake.Behavior{FailReplaces: 1})

	// A Runner needs a cloud and a store. With a durable store, tasks outlive the process.
	runner, err := ru.New(cloud, ru.NewMemoryStore(), ru.Config{MaxWait: 100 * time.Millisecond, Poll: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	// Serve drives all tasks of the store; a service starts it once.
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- runner.Serve(ctx) }()
	defer func() { stop(); <-served }()

	// What is to be done is data.
	spec := ru.Spec{
		GroupID:     fake.DemoGroup,
		Description: "quickstart",
		Update:      ru.Image(fake.DemoNewImage),
		Rollback:    ru.Image(fake.DemoOldImage),
		Batches:     ru.InBatches(2),
		Pause:       ru.PausePolicy{Mode: ru.PauseFirstBatch},
	}
	// Plan says what would happen, and changes nothing.
	plan, err := runner.Plan(ctx, spec)
	if err != nil {
		return err
	}
	s.plan(plan)

	// Create is the confirmation: Serve begins at once.
	task, err := runner.Create(ctx, spec)
	if err != nil {
		return err
	}
	// The first batch is done when the task waits for us.
	if err := s.follow(ctx, runner, task.ID, ru.StatusBatchPaused); err != nil {
		return err
	}
	s.say("the first batch looks good: continue", "第一批符合预期：继续")
	if err := runner.Continue(ctx, task.ID); err != nil {
		return err
	}
	// In the second batch i-0008 fails: the others finish, then the task waits for a decision.
	if err := s.follow(ctx, runner, task.ID, ru.StatusFailurePaused); err != nil {
		return err
	}
	s.say("i-0008 has failed: retry it", "i-0008 失败：重试")
	if err := runner.Retry(ctx, task.ID, []string{"i-0008"}); err != nil {
		return err
	}
	if err := s.follow(ctx, runner, task.ID, ru.StatusSucceeded); err != nil {
		return err
	}
	s.group(cloud.Snapshot(fake.DemoGroup))

	// The most recent task of a group can be rolled back: a task of its own, with the image that Spec.Rollback names.
	s.say("now roll everything back", "现在回滚")
	back, err := runner.Rollback(ctx, task.ID, ru.RollbackSpec{Description: "quickstart, back again"})
	if err != nil {
		return err
	}
	if err := s.follow(ctx, runner, back.ID, ru.StatusSucceeded); err != nil {
		return err
	}
	s.group(cloud.Snapshot(fake.DemoGroup))
	return nil
}

// language is the language asked for: by the flag, else by the environment.
func language(flag string, getenv func(string) string) ru.Language {
	for _, s := range []string{flag, getenv("LC_ALL"), getenv("LC_MESSAGES"), getenv("LANG")} {
		if s == "" {
			continue
		}
		if len(s) >= 2 && s[:2] == "zh" {
			return ru.Chinese
		}
		return ru.English
	}
	return ru.English
}

// terminal reports whether f is a terminal that can redraw.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
