package rollingupgrade

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

var allStatuses = []Status{StatusPending, StatusRunning, StatusBatchPaused, StatusFailurePaused, StatusCanceling, StatusCanceled, StatusSucceeded, StatusFailed}

var allTriggers = []Trigger{onStart, onPause, onFailures, onContinue, onDecisions, onCancel, onSettled, onRollback, onSucceeded, onFailed}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is out of date; go test -run %s -update .\n%s", path, t.Name(), got)
	}
}

// The golden diagram of how a task's status changes.
func TestS33_TransitionDiagram(t *testing.T) {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> pending\n")
	for _, e := range transitions {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", e.from, e.to, e.on)
	}
	for _, s := range allStatuses {
		if s.Ended() {
			fmt.Fprintf(&b, "    %s --> [*]\n", s)
		}
	}
	golden(t, "transitions.mmd", b.String())
}

// The golden table of what is legal when.
func TestS34_CommandTableGolden(t *testing.T) {
	var b strings.Builder
	b.WriteString("| command | status | instances | what it does | 说明 |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range commandTable {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.command, r.status, joinCases(r.instances), r.does.en, r.does.zh)
	}
	golden(t, "commands.md", b.String())
}

func TestS33_EveryStatusIsReachableAndLeadsToAnEnd(t *testing.T) {
	reach := func(from Status) map[Status]bool {
		seen := map[Status]bool{from: true}
		for grown := true; grown; {
			grown = false
			for _, e := range transitions {
				if seen[e.from] && !seen[e.to] {
					seen[e.to], grown = true, true
				}
			}
		}
		return seen
	}
	from := reach(StatusPending)
	for _, s := range allStatuses {
		if !from[s] {
			t.Errorf("%s cannot be reached", s)
		}
		if !slices.ContainsFunc(allStatuses, func(end Status) bool { return end.Ended() && reach(s)[end] }) {
			t.Errorf("nothing leads out of %s to an end", s)
		}
		for _, on := range allTriggers {
			to, err := s.next(on)
			known := slices.ContainsFunc(transitions, func(e edge) bool { return e.from == s && e.on == on && e.to == to })
			var te *TransitionError
			if known == (err != nil) || err != nil && (!errors.Is(err, ErrInvalidTransition) || !errors.As(err, &te) || to != s) {
				t.Errorf("%s on %s: %s, %v", s, on, to, err)
			}
			if s.Ended() && err == nil {
				t.Errorf("%s has ended and leads on to %s", s, to)
			}
		}
	}
}

// N6: every status that waits for the operator has a command that leads out of it.
func TestN6_EveryWaitHasAWayOut(t *testing.T) {
	for _, s := range []Status{StatusPending, StatusBatchPaused, StatusFailurePaused} {
		if !slices.Contains(legal(s), CommandCancel) {
			t.Errorf("%s cannot be canceled", s)
		}
	}
}

// Every command in every status with an instance in every state: the table decides, and a refusal is typed and says
// what is legal.
func TestS34_TheTableDecides(t *testing.T) {
	rows := map[instanceCase]Instance{
		casePending:   {ID: "i", Batch: 1, Status: InstancePending},
		caseRunning:   {ID: "i", Batch: 1, Status: InstanceRunning, Step: Draining},
		caseUndecided: {ID: "i", Batch: 1, Status: InstanceFailed, Step: Updating, Error: &Failure{}},
		caseFinished:  {ID: "i", Batch: 1, Status: InstanceSucceeded},
	}
	wants := map[Command][]instanceCase{
		CommandRetry: {caseUndecided}, CommandSkip: {casePending, caseRunning, caseUndecided}, CommandCancelInstances: {casePending, caseRunning, caseUndecided},
	}
	statuses := map[Command][]Status{
		CommandPause:           {StatusPending, StatusRunning},
		CommandContinue:        {StatusBatchPaused},
		CommandRetry:           {StatusRunning, StatusFailurePaused},
		CommandSkip:            {StatusRunning, StatusBatchPaused, StatusFailurePaused},
		CommandCancelInstances: {StatusRunning, StatusBatchPaused, StatusFailurePaused},
		CommandCancel:          {StatusPending, StatusRunning, StatusBatchPaused, StatusFailurePaused, StatusCanceling},
		CommandRestore:         {StatusCanceled, StatusSucceeded, StatusFailed},
		CommandRollback:        {StatusBatchPaused, StatusFailurePaused, StatusCanceled, StatusSucceeded, StatusFailed},
	}
	for _, c := range Commands() {
		for _, s := range allStatuses {
			for of, row := range rows {
				legalNow := slices.Contains(statuses[c], s)
				if about, ok := wants[c]; ok {
					legalNow = legalNow && slices.Contains(about, of)
				}
				m := newMachine(&Task{Head: Head{ID: "t", Status: s, Batch: 1, Sizes: []int{1}, Phase: Upgrading, Pause: &Pause{}}, Instances: []Instance{row}},
					env{hooks: &Hooks{}}, zeroHour)
				if !s.Waiting() {
					m.t.Pause = nil
				}
				m.recount()
				before := hashOf(m.t)
				var err error
				if c == CommandRollback {
					err = check(m.t, c, nil)
				} else {
					err = m.applyCommand(command{name: c, instances: []string{"i"}, filter: &RestoreFilter{}})
				}
				if legalNow != (err == nil) {
					t.Errorf("%s while %s with an instance that is %s: %v, want legal: %t", c, s, of, err, legalNow)
				}
				if err == nil {
					continue
				}
				var ce *CommandError
				if !errors.As(err, &ce) || !errors.Is(err, ErrIllegalCommand) || !slices.Equal(ce.Legal, legal(s)) {
					t.Errorf("%s while %s: %v is no CommandError with what is legal", c, s, err)
				}
				if m.dirty() || hashOf(m.t) != before {
					t.Errorf("%s while %s was refused and changed the record", c, s)
				}
			}
		}
	}
}
