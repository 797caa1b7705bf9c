package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A screen shows tasks: on a terminal as a table that is drawn again with every event, elsewhere as lines.
type screen struct {
	w      io.Writer
	lang   ru.Language
	live   bool
	began  time.Time
	taskID string // the task that was followed last
	seen   int64  // the number of its last event that was shown
	height int    // of the table above the cursor
}

func newScreen(w io.Writer, l ru.Language, live bool) *screen {
	return &screen{w: w, lang: l, live: live, began: time.Now()}
}

// pick returns the text in the screen's language.
func (s *screen) pick(en, zh string) string {
	if s.lang == ru.Chinese {
		return zh
	}
	return en
}

// line writes one line: under the time that has passed, unless it belongs to what stands above.
func (s *screen) line(format string, args ...any) {
	s.height = 0 // the table above stays as it is
	text := fmt.Sprintf(format, args...)
	if s.live {
		fmt.Fprintln(s.w, text)
		return
	}
	fmt.Fprintf(s.w, "%5.1fs  %s\n", time.Since(s.began).Seconds(), text)
}

// say tells what the operator does.
func (s *screen) say(en, zh string) {
	s.line("%s%s", s.pick(">>> operator: ", ">>> 操作："), s.pick(en, zh))
}

// plan shows what Create would do.
func (s *screen) plan(p *ru.Plan) {
	s.line(s.pick("plan for %s: %d instances in service", "计划：伸缩组 %s，%d 台实例服务中"), p.GroupID, p.InService)
	for _, b := range p.Batches {
		s.line(s.pick("  batch %d: %s (%d stay in service)", "  第 %d 批：%s（%d 台保持服务中）"), b.Number, strings.Join(b.InstanceIDs, " "), b.InService)
	}
	for _, f := range p.Findings {
		s.line(s.pick("  %s: %s", "  %s：%s"), s.word(string(f.Severity)), s.pick(f.Text, findings[f.Code]))
	}
}

// group shows what the instances run.
func (s *screen) group(all []fake.InstanceView) {
	count := map[string]int{}
	var kinds []string
	for _, i := range all {
		kind := fmt.Sprintf(s.pick("%s, %s", "%s，%s"), s.word(string(i.Lifecycle)), i.ImageID)
		if count[kind] == 0 {
			kinds = append(kinds, kind)
		}
		count[kind]++
	}
	for _, kind := range kinds {
		s.line(s.pick("=== %d instances: %s", "=== %d 台实例：%s"), count[kind], kind)
	}
}

// follow shows a task until it is in the status that is waited for.
func (s *screen) follow(ctx context.Context, r *ru.Runner, taskID string, until ru.Status) error {
	if s.taskID != taskID {
		s.taskID, s.seen = taskID, 0
	}
	for e, err := range r.Watch(ctx, taskID, s.seen) {
		if err != nil {
			return err
		}
		s.seen = e.Seq
		t, err := r.Get(ctx, taskID)
		if err != nil {
			return err
		}
		if s.live {
			s.draw(t)
		} else {
			s.event(t, e)
		}
		if e.Kind != ru.EventStatus {
			continue
		}
		if now := ru.Status(e.To); now == until {
			return nil
		} else if now.Waiting() || now.Ended() {
			return fmt.Errorf("task %s is %s and not %s: %s", taskID, now, until, e.Text)
		}
	}
	return fmt.Errorf("task %s has ended and is not %s", taskID, until)
}

// event writes the events that are worth a line.
func (s *screen) event(t *ru.Task, e ru.Event) {
	switch e.Kind {
	case ru.EventCreated:
		s.line(s.pick("%s: %s", "%s：%s"), s.title(t), t.ID)
	case ru.EventStatus:
		s.line(s.pick("task: %s", "任务：%s"), s.word(e.To))
	case ru.EventBatchStarted:
		s.line(s.pick("batch %d of %d begins", "第 %d 批（共 %d 批）开始"), e.Batch, len(t.Sizes))
	case ru.EventBatchEnded:
		s.line(s.pick("batch %d of %d is done", "第 %d 批（共 %d 批）完成"), e.Batch, len(t.Sizes))
	case ru.EventInstance:
		switch {
		case e.From == string(ru.InstancePending) && e.To == string(ru.InstanceRunning): // all of a batch at once
		case e.Text != "":
			s.line(s.pick("  %s %s: %s", "  %s %s：%s"), e.InstanceID, s.word(e.To), e.Text)
		default:
			s.line("  %s %s", e.InstanceID, s.word(e.To))
		}
	}
}

// draw draws the table over the one that stands there.
func (s *screen) draw(t *ru.Task) {
	var b strings.Builder
	if s.height > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.height)
	}
	s.height = 0
	row := func(format string, args ...any) {
		fmt.Fprintf(&b, format+"\x1b[K\n", args...)
		s.height++
	}
	row(s.pick("%s: %s", "%s：%s"), s.title(t), s.word(string(t.Status)))
	batch := 0
	for _, i := range t.Instances {
		if i.Batch == 0 {
			continue
		}
		if i.Batch != batch {
			batch = i.Batch
			done := 0
			for _, j := range t.Instances {
				if j.Batch == batch && j.Status == ru.InstanceSucceeded {
					done++
				}
			}
			size := t.Sizes[batch-1]
			row(s.pick("  batch %d  %s%s  %d/%d", "  第 %d 批  %s%s  %d/%d"), batch,
				strings.Repeat("█", done*20/size), strings.Repeat("░", 20-done*20/size), done, size)
		}
		row("    %s %s  %s", signs[i.Status], i.ID, s.state(&i))
	}
	fmt.Fprintf(s.w, "\x1b[?7l%s\x1b[J\x1b[?7h", b.String()) // a long line is cut, so that the height is right
}

// title says what a task does.
func (s *screen) title(t *ru.Task) string {
	what := s.pick("rolling upgrade of", "滚动升级")
	if t.Kind == ru.Rollback {
		what = s.pick("rollback of", "回滚")
	}
	return fmt.Sprintf(s.pick("%s %s to %s", "%s %s → %s"), what, t.GroupID, t.Spec.Update.Image.ImageID)
}

// state says where an instance stands.
func (s *screen) state(i *ru.Instance) string {
	switch {
	case i.Status == ru.InstanceRunning:
		return s.word(string(i.Step))
	case i.Status == ru.InstanceFailed && i.Error != nil:
		return s.word(string(i.Status)) + s.pick(": ", "：") + i.Error.Text
	}
	return s.word(string(i.Status))
}

var signs = map[ru.InstanceStatus]string{
	ru.InstancePending: "\x1b[2m·\x1b[0m", ru.InstanceRunning: "\x1b[36m●\x1b[0m",
	ru.InstanceSucceeded: "\x1b[32m✓\x1b[0m", ru.InstanceFailed: "\x1b[31m✗\x1b[0m", ru.InstanceGone: "-",
}

// word translates statuses and steps; underscores are for programs.
func (s *screen) word(w string) string {
	if zh, ok := words[w]; ok && s.lang == ru.Chinese {
		return zh
	}
	return strings.ReplaceAll(w, "_", " ")
}

var words = map[string]string{
	"pending": "未开始", "running": "执行中", "batch_paused": "等待中（批次暂停）", "failure_paused": "等待中（失败暂停）",
	"canceling": "取消中", "canceled": "已取消", "succeeded": "成功", "failed": "失败", "gone": "已离开",
	"entering standby": "正在转为备用中", "draining": "正在排空连接", "updating": "正在更新", "verifying": "正在验证", "exiting standby": "正在恢复服务中",
	"InService": "服务中", "Standby": "备用中", "error": "错误", "warning": "提示",
}

// findings are those that this cloud's plan has, in Chinese.
var findings = map[ru.FindingCode]string{
	ru.FindConfiguration: "任务成功后，伸缩组当前生效的伸缩配置也改用新镜像",
}
