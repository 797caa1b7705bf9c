package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// An operator drives a task, shows what happens, and asks a person where the task waits.
type operator struct {
	runner *ru.Runner
	lines  <-chan string // what the person types; closed at its end
	out    io.Writer
	lang   ru.Language
	shown  map[string]int64 // the number of the last event that was shown, by task
}

func newOperator(r *ru.Runner, in io.Reader, out io.Writer, lang string) *operator {
	lines := make(chan string)
	go func() { // a read cannot be canceled, so it has a goroutine that lives as long as the program
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- strings.TrimSpace(s.Text())
		}
	}()
	op := &operator{runner: r, lines: lines, out: out, lang: ru.English, shown: map[string]int64{}}
	if strings.HasPrefix(lang, "zh") {
		op.lang = ru.Chinese
	}
	return op
}

// say prints a line in the person's language.
func (op *operator) say(en, zh string, args ...any) {
	if op.lang == ru.Chinese {
		en = zh
	}
	fmt.Fprintf(op.out, en+"\n", args...)
}

var errNoAnswer = errors.New("no answer: the input has ended")

// ask returns the next line that the person types.
func (op *operator) ask(ctx context.Context) (string, error) {
	fmt.Fprint(op.out, "> ")
	select {
	case line, ok := <-op.lines:
		if !ok {
			fmt.Fprintln(op.out)
			return "", errNoAnswer
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// agree shows a plan and asks whether to begin.
func (op *operator) agree(ctx context.Context, p *ru.Plan, o options) (bool, error) {
	op.say("Plan for %s: %d instances in service, %d batches", "伸缩组 %s 的计划：%d 台实例服务中，分 %d 批", p.GroupID, p.InService, len(p.Batches))
	for _, b := range p.Batches {
		op.say("  batch %d: %s (%d stay in service)", "  第 %d 批：%s（%d 台保持服务中）", b.Number, strings.Join(b.InstanceIDs, " "), b.InService)
	}
	for _, id := range p.UpToDate {
		op.say("  %s is up to date", "  %s 已是目标镜像", id)
	}
	for _, e := range p.Excluded {
		op.say("  %s is left alone: %s", "  %s 不处理：%s", e.InstanceID, e.Reason)
	}
	for _, line := range p.Policy {
		fmt.Fprintln(op.out, "  -", line)
	}
	for _, f := range p.Findings {
		fmt.Fprintln(op.out, "  "+f.String())
	}
	switch {
	case o.plan:
		return false, nil
	case !p.OK():
		return false, errors.New("the plan has errors; nothing was changed")
	case o.yes:
		return true, nil
	}
	op.say("Begin? Type yes.", "开始执行？请输入 yes。")
	answer, err := op.ask(ctx)
	if answer != "yes" && !errors.Is(err, context.Canceled) {
		op.say("Nothing was changed.", "未做任何更改。")
		return false, nil
	}
	return err == nil, err
}

// drive works on a task until it has ended and the person wants nothing more of it.
func (op *operator) drive(ctx context.Context, id string) error {
	for {
		if err := op.work(ctx, id); err != nil {
			return err
		}
		e, err := op.runner.Explain(ctx, id)
		if err != nil {
			return err
		}
		if e.Status == ru.StatusSucceeded && len(e.Leftovers) == 0 {
			op.say("Task %s has succeeded. The flag -rollback takes an upgrade back.", "任务 %s 成功。升级可用 -rollback 回滚。", id)
			return nil
		}
		fmt.Fprint(op.out, e.Text(op.lang))
		next, err := op.decide(ctx, id, e)
		if err != nil {
			return fmt.Errorf("task %s is %s: %w", id, e.Status, err)
		}
		if next == "" {
			return nil
		}
		id = next
	}
}

// work runs a task until it has ended or waits, and shows its events meanwhile.
func (op *operator) work(ctx context.Context, id string) error {
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		op.watch(watching, id, 0)
	}()
	err := op.runner.Run(ctx, id)
	stop()
	<-watched
	if err != nil {
		return err
	}
	t, err := op.runner.Get(ctx, id)
	if err == nil {
		op.watch(ctx, id, t.EventSeq) // the rest
	}
	return err
}

// watch shows events up to one with a number; 0 means until ctx is done.
func (op *operator) watch(ctx context.Context, id string, last int64) {
	if last > 0 && op.shown[id] >= last {
		return
	}
	for e, err := range op.runner.Watch(ctx, id, op.shown[id]) {
		if err != nil {
			return
		}
		op.shown[id] = e.Seq
		op.show(e)
		if e.Seq == last {
			return
		}
	}
}

// show prints the events that are worth a line.
func (op *operator) show(e ru.Event) {
	at := e.Time.Local().Format("15:04:05")
	switch {
	case e.Kind == ru.EventStep && e.From == "", e.Kind == ru.EventInstance && e.To == string(ru.InstanceRunning):
		// The batch has begun; what its instances come to is shown.
	case e.Kind == ru.EventStep:
		op.say("%s   %s: %s", "%s   %s：%s", at, e.InstanceID, e.To)
	case e.Kind == ru.EventInstance:
		fmt.Fprintln(op.out, strings.TrimSpace(fmt.Sprintf("%s   %s: %s %s", at, e.InstanceID, e.To, e.Text)))
	case e.Kind == ru.EventBatchStarted, e.Kind == ru.EventBatchEnded:
		fmt.Fprintln(op.out, at, strings.ReplaceAll(string(e.Kind), "_", " "), e.Batch, e.Text)
	case e.InstanceID != "":
		fmt.Fprintln(op.out, strings.TrimSpace(fmt.Sprintf("%s   %s: %s %s %s", at, e.InstanceID, e.Kind, e.To, e.Text)))
	default:
		fmt.Fprintln(op.out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", at, e.Kind, e.To, e.Text)))
	}
}

// decide asks for commands until one gives the task, or another one, something to do; it returns that task. "" means that the person is done.
func (op *operator) decide(ctx context.Context, id string, e ru.Explanation) (string, error) {
	op.say("Type a command, with instance IDs where it takes them (none: all it may name), or quit.",
		"请输入命令；可对实例执行的命令后面可加实例 ID（不加则对全部可选实例），quit 退出。")
	for {
		line, err := op.ask(ctx)
		if err != nil {
			return "", err
		}
		if line == "" {
			continue
		}
		if line == "quit" {
			op.say("Task %s stays as it is.", "任务 %s 保持现状。", id)
			return "", nil
		}
		next, err := op.command(ctx, id, e, line)
		if err == nil {
			return next, nil
		}
		if ctx.Err() != nil {
			return "", err
		}
		fmt.Fprintln(op.out, err)
	}
}

// command does what was typed and returns the task to work on next.
func (op *operator) command(ctx context.Context, id string, e ru.Explanation, line string) (string, error) {
	var legal ru.LegalCommand
	for _, c := range e.Commands { // "cancel" begins "cancel instances" too: the longest counts
		name := string(c.Command)
		if (line == name || strings.HasPrefix(line, name+" ")) && len(name) > len(legal.Command) {
			legal = c
		}
	}
	named := strings.Fields(strings.TrimPrefix(line, string(legal.Command)))
	ids := named
	if len(ids) == 0 {
		ids = legal.InstanceIDs
	}
	r := op.runner
	switch legal.Command {
	case ru.CommandContinue:
		return id, r.Continue(ctx, id)
	case ru.CommandRetry:
		return id, r.Retry(ctx, id, ids)
	case ru.CommandSkip:
		return id, r.Skip(ctx, id, ids)
	case ru.CommandCancelInstances:
		return id, r.CancelInstances(ctx, id, ids)
	case ru.CommandCancel:
		return id, r.Cancel(ctx, id, "canceled at the keyboard")
	case ru.CommandRestore:
		return id, r.Restore(ctx, id, ru.RestoreFilter{InstanceIDs: named})
	case ru.CommandRollback:
		t, err := r.Rollback(ctx, id, ru.RollbackSpec{})
		return t.ID, err
	}
	return "", fmt.Errorf("%q is no command here", line)
}
