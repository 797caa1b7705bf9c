package rollingupgrade

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Language is a language of texts for people.
type Language string

// The languages. Any other counts as English.
const (
	English Language = "en"
	Chinese Language = "zh"
)

// An Explanation says what a task waits for and what an operator can do about it.
type Explanation struct {
	TaskID string
	Status Status
	// Phase is what a running task is doing.
	Phase Phase
	// WaitsFor says what has to happen next, in English; Text has it in other languages.
	WaitsFor string
	// Since is when that began, and Until when it is given up or decided without the operator; zero means never.
	Since, Until time.Time
	// Commands are the legal commands.
	Commands []LegalCommand
	// Leftovers are what the task has changed and not put back.
	Leftovers []Leftover

	waits does
}

// A LegalCommand is a command that is legal now.
type LegalCommand struct {
	Command Command
	// Does says what it would do, in English; Explanation.Text has it in other languages.
	Does string
	// InstanceIDs are the instances that it may name; nil for commands about the whole task.
	InstanceIDs []string

	does does
}

// Explain returns what a task waits for and which commands are legal, or ErrTaskNotFound.
func (r *Runner) Explain(ctx context.Context, taskID string) (Explanation, error) {
	t, err := r.load(ctx, taskID)
	if err != nil {
		return Explanation{}, &OpError{"explain", clip(taskID), err}
	}
	return t.Explain(), nil
}

// Explain returns what the task waits for and which commands are legal. It looks only at the record: that a
// Rollback or Restore is legal means that the status allows it.
func (t *Task) Explain() Explanation {
	e := Explanation{TaskID: t.ID, Status: t.Status, Phase: t.Phase, Leftovers: t.Leftovers()}
	e.waits, e.Since, e.Until = t.waits()
	e.WaitsFor = e.waits.en
	for _, c := range legal(t.Status) {
		r := lookup(c, t.Status)
		l := LegalCommand{Command: c, Does: r.does.en, does: r.does}
		if r.instances != nil {
			for n := range t.Instances {
				if i := &t.Instances[n]; i.Batch > 0 && check(t, c, []*Instance{i}) == nil {
					l.InstanceIDs = append(l.InstanceIDs, i.ID)
				}
			}
			if len(l.InstanceIDs) == 0 {
				continue
			}
		}
		if t.idle(c) {
			continue
		}
		e.Commands = append(e.Commands, l)
	}
	return e
}

// idle reports whether a command that the status allows is certain to be refused or to do nothing.
func (t *Task) idle(c Command) bool {
	switch c {
	case CommandRollback:
		return t.Kind == Rollback || t.Restore.Active()
	case CommandRestore:
		return t.NextID != "" || t.Restore.Active() || len(t.Leftovers()) == 0
	}
	return false
}

// waits says what the task waits for, since when and until when.
func (t *Task) waits() (does, time.Time, time.Time) {
	var never time.Time
	var p Pause
	if t.Pause != nil {
		p = *t.Pause
	}
	switch {
	case t.Restore.Active() && t.Status.Ended():
		return does{"what was left over to be put back", "等待遗留项恢复完成"}, t.Restore.Since, never
	case t.Status == StatusPending:
		return does{"a Runner to begin (Run or Serve)", "等待 Runner 开始执行（Run 或 Serve）"}, t.CreatedAt, never
	case t.Status == StatusBatchPaused:
		return does{"the operator: " + p.Text, "等待操作者（批次暂停）：" + p.Text}, p.Since, p.Until
	case t.Status == StatusFailurePaused:
		return does{"decisions about failed instances: " + p.Text, "等待对失败实例的决定（失败暂停）：" + p.Text}, p.Since, p.Until
	case t.Status == StatusCanceling:
		n := t.Progress.Running
		return does{fmt.Sprintf("%d instances at work to come to a safe end", n), fmt.Sprintf("等待 %d 台执行中的实例到达安全点", n)}, t.StageSince, t.StageSince.Add(t.Spec.updateTimeout())
	case t.Status.Ended():
		return does{"nothing: it has ended", "无：任务已结束"}, t.EndedAt, never
	}
	limit := or(t.Spec.Timeouts.Group, 10*time.Minute)
	switch {
	case t.Stage == stageSettling:
		limit = or(t.Spec.Timeouts.Settle, 10*time.Minute)
		return does{"scaling activities of the group to end", "等待伸缩组内的伸缩活动结束"}, t.StageSince, t.StageSince.Add(limit)
	case t.Stage == stageWorking, t.Stage == stageOpening && t.Opened == t.Batch:
		return t.waitsForInstances()
	}
	return does{fmt.Sprintf("the cloud: %s", t.Stage), fmt.Sprintf("等待云端操作：%s", t.Stage)}, t.StageSince, t.StageSince.Add(limit)
}

// waitsForInstances says how far the batch at work is.
func (t *Task) waitsForInstances() (does, time.Time, time.Time) {
	steps := map[Step]int{}
	failed, pending, running := 0, 0, 0
	m := machine{t: t}
	var until time.Time
	for n := range t.Instances {
		i := &t.Instances[n]
		if i.Batch != t.Batch {
			continue
		}
		switch {
		case i.Status == InstanceRunning:
			steps[i.Step]++
			running++
			limit := m.stepLimit(i)
			if i.Step == Draining {
				limit = t.Spec.Drain
			}
			if end := i.StepSince.Add(limit); end.After(until) {
				until = end
			}
		case i.undecided():
			failed++
		case i.Status == InstancePending:
			pending++
		}
	}
	var en, zh []string
	for _, s := range []Step{EnteringStandby, Draining, Updating, Verifying, ExitingStandby} {
		if n := steps[s]; n > 0 {
			en = append(en, fmt.Sprintf("%d %s", n, s))
			zh = append(zh, fmt.Sprintf("%d 台%s", n, stepZH[s]))
		}
	}
	if failed > 0 {
		en, zh = append(en, fmt.Sprintf("%d failed and undecided", failed)), append(zh, fmt.Sprintf("%d 台失败待决定", failed))
	}
	if pending > 0 {
		why, whyZH := "", ""
		switch limit := t.Spec.MaxInFlight; {
		case failed > 0 || t.PauseAsked != nil:
		case limit > 0 && running >= limit:
			why, whyZH = fmt.Sprintf(" (MaxInFlight is %d)", limit), fmt.Sprintf("（MaxInFlight 为 %d）", limit)
		default:
			why, whyZH = " (as fast as the rate limits let updates go on)", "（按更新的限流速率陆续开始）"
		}
		en, zh = append(en, fmt.Sprintf("%d not started%s", pending, why)), append(zh, fmt.Sprintf("%d 台未开始%s", pending, whyZH))
	}
	return does{
		fmt.Sprintf("batch %d of %d: %s", t.Batch, len(t.Sizes), strings.Join(en, ", ")),
		fmt.Sprintf("第 %d/%d 批：%s", t.Batch, len(t.Sizes), strings.Join(zh, "，")),
	}, t.BatchSince, until
}

var stepZH = map[Step]string{
	EnteringStandby: "正在进入备用中", Draining: "正在排空连接", Updating: "正在更新", Verifying: "正在验证", ExitingStandby: "正在恢复服务",
}

var statusZH = map[Status]string{
	StatusPending: "未开始", StatusRunning: "执行中", StatusBatchPaused: "等待中（批次暂停）", StatusFailurePaused: "等待中（失败暂停）",
	StatusCanceling: "取消中", StatusCanceled: "已取消", StatusSucceeded: "成功", StatusFailed: "失败",
}

// Text says the explanation for a person.
func (e Explanation) Text(l Language) string {
	pick := func(d does) string {
		if l == Chinese {
			return d.zh
		}
		return d.en
	}
	var b strings.Builder
	if l == Chinese {
		fmt.Fprintf(&b, "任务 %s：%s。%s\n", e.TaskID, statusZH[e.Status], e.waits.zh)
	} else {
		fmt.Fprintf(&b, "Task %s is %s. It waits for %s.\n", e.TaskID, e.Status, e.waits.en)
	}
	at := func(label string, t time.Time) {
		if !t.IsZero() {
			fmt.Fprintf(&b, "%s %s\n", label, t.Format(time.RFC3339))
		}
	}
	at(pick(does{"since", "自"}), e.Since)
	at(pick(does{"until", "至"}), e.Until)
	for _, c := range e.Commands {
		fmt.Fprintf(&b, "- %s: %s", c.Command, pick(c.does))
		if n := len(c.InstanceIDs); n > 0 {
			fmt.Fprintf(&b, " (%s", strings.Join(c.InstanceIDs[:min(n, 3)], ", "))
			if n > 3 {
				fmt.Fprintf(&b, ", +%d", n-3)
			}
			b.WriteString(")")
		}
		b.WriteString("\n")
	}
	for _, left := range e.Leftovers {
		fmt.Fprintf(&b, "%s %s\n", pick(does{"left over:", "遗留："}), left)
	}
	return b.String()
}

// String says the leftover for a person.
func (l Leftover) String() string {
	return fmt.Sprintf("%s %s%s%s: %s", l.Kind, l.InstanceID, l.Process, l.ConfigurationID, l.Reason)
}
