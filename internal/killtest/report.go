package killtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// A Report is what came of a run.
type Report struct {
	Name      string
	Processes int
	Seed      uint64
	Rounds    int
	Took      time.Duration

	Kills, Short, Long, Graceful int
	// During counts the kills at which an operation of a kind was in flight, DuringFreeze the freezes, and Aimed the kills that waited for one.
	During, DuringFreeze, Aimed map[string]int

	Tasks, Upgrades, Rollbacks, Canceled, Restores int
	Statuses                                       map[ru.Status]int
	// Repeated are sendings of a command beyond the first one, Elsewhere commands that were carried out in another process than the task's driver.
	Commands, Repeated, Elsewhere int
	Effects, Requests             int
	// Again are orders to stop or start that were sent again while the first sending was under way, and refused.
	Again   int
	Actions map[string]int
	// Silent are the times from the last save of an owner that had fallen silent to the first one of the next, Handed those
	// from one that had given the lease back.
	Silent, Handed []time.Duration
	// MostTasks is how many tasks one process drove at a time at the most, TaskLimit how many it may.
	MostTasks, TaskLimit int
	// Unknown counts instances that failed as "outcome unknown".
	Unknown int

	// Late are calls of frozen or dead processes that came in after their lease, or when the next process had taken over, LateEffects those that had an effect, and Harm what does not hold because of them.
	Late, LateEffects []string
	Harm              []string
	// Violations is what does not hold.
	Violations []string
}

func newReport(cfg Config) *Report {
	return &Report{
		Name: cfg.Name, Processes: cfg.Processes, Seed: cfg.Seed, During: map[string]int{}, DuringFreeze: map[string]int{}, Aimed: map[string]int{},
		Statuses: map[ru.Status]int{}, Actions: map[string]int{},
	}
}

// add adds a round.
func (r *Report) add(w *witness) {
	r.Rounds++
	for _, o := range w.round.crew.outages {
		during := o.during
		if len(during) == 0 {
			during = []string{kindNothing}
		}
		table := r.DuringFreeze
		switch o.kind {
		case "kill":
			r.Kills++
			table = r.During
			if o.aimed != "" {
				r.Aimed[o.aimed]++
			}
		case "short freeze":
			r.Short++
		case "long freeze":
			r.Long++
		case "graceful end":
			r.Graceful++
			continue
		}
		for _, k := range during {
			table[k]++
		}
	}
	for _, t := range w.tasks {
		r.Tasks++
		r.Statuses[t.Status]++
		if t.Kind == ru.Rollback {
			r.Rollbacks++
		} else {
			r.Upgrades++
		}
		for _, e := range w.events[t.ID] {
			if e.Kind == ru.EventInstance && strings.Contains(e.Text, "outcome unknown") {
				r.Unknown++
			}
		}
	}
	o := w.round.operator
	r.Commands, r.Repeated, r.Canceled, r.Restores = r.Commands+o.given, r.Repeated+o.repeated, r.Canceled+o.canceled, r.Restores+o.restores
	r.Elsewhere += w.elsewhere
	r.Again += w.resent
	r.Effects += len(w.effects)
	r.Requests += len(w.testimony.Requests)
	for _, e := range w.effects {
		r.Actions[e.Action]++
	}
	r.Silent, r.Handed = append(r.Silent, w.silent...), append(r.Handed, w.handed...)
	r.MostTasks, r.TaskLimit = max(r.MostTasks, w.mostTasks), w.round.set.Tasks
	for _, q := range w.late {
		text := fmt.Sprintf("%s %s %s %v, sent %s and come in %s after the end of its lease, frozen: %t, answered %d", q.Process, q.Action, q.Group, q.Instances,
			time.Duration(q.Sent-q.Lease).Round(time.Millisecond), time.Duration(q.Arrived-q.Lease).Round(time.Millisecond), q.frozen, q.Status)
		r.Late = append(r.Late, text)
		for _, h := range q.harm {
			r.LateEffects = append(r.LateEffects, text+": "+h)
		}
	}
	r.Harm = append(r.Harm, w.harm...)
	for _, p := range w.round.crew.problems {
		w.violations = append(w.violations, "process: "+p)
	}
	for _, v := range w.violations {
		r.Violations = append(r.Violations, fmt.Sprintf("seed %d: %s", w.round.set.Seed, v))
	}
}

// Print prints the report.
func (r *Report) Print(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("store", "%s, %d processes, lease %s", r.Name, r.Processes, timing(false).Lease)
	line("seed", "%d, %d rounds, %s", r.Seed, r.Rounds, r.Took.Round(time.Second))
	line("kills", "%d", r.Kills)
	line("freezes", "%d shorter than the lease, %d longer", r.Short, r.Long)
	line("graceful ends", "%d", r.Graceful)
	line("take-overs", "%d after silence (%s), %d after hand-back (%s)", len(r.Silent), spread(r.Silent), len(r.Handed), spread(r.Handed))
	line("tasks", "%d: %d upgrades, %d rollbacks; %d cancels, %d restores; %v", r.Tasks, r.Upgrades, r.Rollbacks, r.Canceled, r.Restores, r.Statuses)
	line("tasks at a time", "at most %d of %d in one process", r.MostTasks, r.TaskLimit)
	line("commands", "%d, sent again %d times; %d saved by another process than the driver's", r.Commands, r.Repeated, r.Elsewhere)
	line("side effects", "%d of %d calls", r.Effects, r.Requests)
	line("sent again", "%d orders to stop or start, while the first sending was under way, and refused", r.Again)
	line("unknown outcomes", "%d", r.Unknown)
	line("late calls", "%d of frozen or dead processes, %d with an effect, %d rules broken by them", len(r.Late), len(r.LateEffects), len(r.Harm))
	fmt.Fprintf(t, "\noperation\teffects\tin flight at kills\tat freezes\taimed at\n")
	kinds := append(Kinds(), kindNothing)
	for k := range maps.Keys(r.Actions) {
		if !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	for _, k := range kinds {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", k, r.Actions[k], r.During[k], r.DuringFreeze[k], r.Aimed[k])
	}
	_ = t.Flush()
	for title, all := range map[string][]string{"late call": r.Late, "effect of a late call": r.LateEffects, "harm of late calls": r.Harm, "VIOLATION": r.Violations} {
		for n, v := range all {
			if n == 40 {
				fmt.Fprintf(out, "%s: %d more\n", title, len(all)-n)
				break
			}
			fmt.Fprintf(out, "%s: %s\n", title, v)
		}
	}
	fmt.Fprintf(out, "violations: %d\n", len(r.Violations))
}
