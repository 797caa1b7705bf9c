package rollingupgrade

import (
	"fmt"
	"slices"
	"strings"
)

// Trigger is what moves a task from one status to another.
type Trigger string

// The triggers.
const (
	onStart     Trigger = "start"
	onPause     Trigger = "pause"
	onFailures  Trigger = "undecided failures"
	onContinue  Trigger = "continue"
	onDecisions Trigger = "retry or last decision"
	onCancel    Trigger = "cancel"
	onSettled   Trigger = "settled"
	onRollback  Trigger = "roll back"
	onSucceeded Trigger = "all succeeded"
	onFailed    Trigger = "failed"
)

// An edge of the state machine.
type edge struct {
	from Status
	on   Trigger
	to   Status
}

// transitions is the only place that knows how a task's status changes.
var transitions = []edge{
	{StatusPending, onStart, StatusRunning},
	{StatusPending, onCancel, StatusCanceled},
	{StatusRunning, onPause, StatusBatchPaused},
	{StatusRunning, onFailures, StatusFailurePaused},
	{StatusRunning, onCancel, StatusCanceling},
	{StatusRunning, onSucceeded, StatusSucceeded},
	{StatusRunning, onFailed, StatusFailed},
	{StatusBatchPaused, onContinue, StatusRunning},
	{StatusBatchPaused, onCancel, StatusCanceled},
	{StatusBatchPaused, onRollback, StatusCanceled},
	{StatusFailurePaused, onDecisions, StatusRunning},
	{StatusFailurePaused, onCancel, StatusCanceled},
	{StatusFailurePaused, onRollback, StatusCanceled},
	{StatusCanceling, onSettled, StatusCanceled},
}

// next is the only way a status changes. It returns a *TransitionError for an edge that the table does not have.
func (s Status) next(on Trigger) (Status, error) {
	for _, e := range transitions {
		if e.from == s && e.on == on {
			return e.to, nil
		}
	}
	return s, &TransitionError{From: s, On: on}
}

// instanceEdges is the only place that knows how an instance's status changes.
var instanceEdges = map[InstanceStatus][]InstanceStatus{
	InstancePending:  {InstanceRunning, InstanceSucceeded, InstanceFailed, InstanceGone},
	InstanceRunning:  {InstanceSucceeded, InstanceFailed, InstanceGone},
	InstanceFailed:   {InstanceRunning, InstanceSucceeded, InstanceFailed}, // retry, skip, cancel
	InstanceLeftover: {InstanceGone},
}

// Command is what an operator can ask of a task.
type Command string

// The commands.
const (
	CommandPause    Command = "pause"
	CommandContinue Command = "continue"
	CommandRetry    Command = "retry"
	CommandSkip     Command = "skip"
	// CommandCancelInstances cancels single instances, CommandCancel the task.
	CommandCancelInstances Command = "cancel instances"
	CommandCancel          Command = "cancel"
	CommandRollback        Command = "roll back"
	CommandRestore         Command = "restore"
)

// Commands returns all commands, in a fixed order.
func Commands() []Command {
	return []Command{CommandPause, CommandContinue, CommandRetry, CommandSkip, CommandCancelInstances, CommandCancel, CommandRollback, CommandRestore}
}

// does says what a command does in a status, in English and in Chinese.
type does struct{ en, zh string }

// A rule is a row of the command table.
type rule struct {
	command Command
	status  Status
	// instances are the statuses that an instance must have; nil for commands about the whole task.
	// "undecided" is a failed instance without a decision.
	instances []instanceCase
	does      does
}

// instanceCase is an instance's status as the command table sees it.
type instanceCase string

const (
	casePending   instanceCase = "pending"
	caseRunning   instanceCase = "running"
	caseUndecided instanceCase = "failed"
	caseFinished  instanceCase = "finished"
)

// commandTable is the only place that decides which command is legal.
var commandTable = makeCommandTable()

func makeCommandTable() []rule {
	unfinished := []instanceCase{casePending, caseRunning, caseUndecided}
	failed := []instanceCase{caseUndecided}
	var table []rule
	add := func(c Command, instances []instanceCase, d does, statuses ...Status) {
		for _, s := range statuses {
			table = append(table, rule{c, s, instances, d})
		}
	}
	add(CommandPause, nil, does{"pauses when nothing is in flight", "在没有进行中的操作时暂停"},
		StatusPending, StatusRunning)
	add(CommandContinue, nil, does{"goes on: starts the next batch, or tries the step again that the task paused at", "继续执行：开始下一批次，或重试暂停时的步骤"},
		StatusBatchPaused)
	add(CommandRetry, failed, does{"tries the failed instances once more, at once", "立即重试失败的实例"},
		StatusRunning, StatusFailurePaused)
	add(CommandSkip, unfinished, does{"goes on without these instances; they show as succeeded, and those in Standby stay there", "跳过这些实例：显示为成功；处于备用中的实例保持备用中，需手动移出"},
		StatusRunning, StatusBatchPaused, StatusFailurePaused)
	add(CommandCancelInstances, unfinished, does{"goes on without these instances; they show as failed, and those in Standby stay there", "取消这些实例：显示为失败；处于备用中的实例保持备用中"},
		StatusRunning, StatusBatchPaused, StatusFailurePaused)
	add(CommandCancel, nil, does{"ends the task without having begun", "结束尚未开始的任务"},
		StatusPending)
	add(CommandCancel, nil, does{"starts nothing new, brings what is in flight to a safe end, and ends; Restore puts back what is left", "不再开始新的操作，进行中的操作到达安全点后结束；用 Restore 恢复遗留项"},
		StatusRunning)
	add(CommandCancel, nil, does{"ends the task; Restore puts back what is left", "结束任务；用 Restore 恢复遗留项"},
		StatusBatchPaused, StatusFailurePaused)
	add(CommandCancel, nil, does{"is under way already; a restore can be added to it", "正在取消；可附加恢复"},
		StatusCanceling)
	add(CommandRollback, nil, does{"cancels the task and rolls back the instances that have completed the update", "取消任务并回滚已完成更新的实例"},
		StatusBatchPaused, StatusFailurePaused)
	add(CommandRollback, nil, does{"rolls back the instances that have completed the update, if this is the group's most recent task", "回滚已完成更新的实例（仅限该伸缩组最近一次执行的任务）"},
		StatusSucceeded, StatusFailed, StatusCanceled)
	add(CommandRestore, nil, does{"puts back what the task changed and left behind", "恢复该任务改动后遗留的项"},
		StatusSucceeded, StatusFailed, StatusCanceled)
	return table
}

// lookup returns the table's row, or nil if the command is not legal in that status.
func lookup(c Command, s Status) *rule {
	for i := range commandTable {
		if r := &commandTable[i]; r.command == c && r.status == s {
			return r
		}
	}
	return nil
}

// legal lists the commands that are legal in a status, in the order of [Commands].
func legal(s Status) []Command {
	var cs []Command
	for _, c := range Commands() {
		if lookup(c, s) != nil {
			cs = append(cs, c)
		}
	}
	return cs
}

// caseOf says how the command table sees an instance.
func (i *Instance) caseOf() instanceCase {
	switch {
	case i.Status == InstancePending:
		return casePending
	case i.Status == InstanceRunning:
		return caseRunning
	case i.undecided():
		return caseUndecided
	}
	return caseFinished
}

// check returns a *CommandError if c is not legal for the task or for one of the instances.
func check(t *Task, c Command, instances []*Instance) error {
	r := lookup(c, t.Status)
	if r == nil {
		return &CommandError{Command: c, TaskID: t.ID, Status: t.Status, Legal: legal(t.Status)}
	}
	for _, i := range instances {
		if !slices.Contains(r.instances, i.caseOf()) {
			return &CommandError{
				Command: c, TaskID: t.ID, Status: t.Status, InstanceID: i.ID, Instance: i.Status, Legal: legal(t.Status),
				Err: fmt.Errorf("%s takes instances that are %s", c, joinCases(r.instances)),
			}
		}
	}
	return nil
}

func joinCases(cs []instanceCase) string {
	s := make([]string, len(cs))
	for i, c := range cs {
		s[i] = string(c)
	}
	return strings.Join(s, " or ")
}
