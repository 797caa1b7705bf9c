package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func createCases() []draft {
	return []draft{
		{
			name: "create/every field",
			demands: "Every field of a task, its rows, events and outputs comes back as it was given, also from Head and List: integers to the " +
				"last bit, times as the same instant to the nanosecond and in UTC, json.RawMessage as the same JSON value. Nil and empty may change places.",
			run: func(k *kit) {
				c := creation{Task: filledTask("task-1", "group-1"), Events: filledEvents(3, 1, 3)}
				c.Task.EventSeq = 3
				k.mustCreate(c)
				k.same("after Create")
			},
		},
		{
			name: "create/zero values",
			demands: "Zero values stay zero, and a pointer to a zero value is not nil. A task need not have rows or events, " +
				"and an output that is empty is an output.",
			run: zeroValues,
		},
		{
			name: "create/texts",
			demands: "Texts are any valid UTF-8, NUL and line ends of all kinds included, and of any length (100,000 bytes here). " +
				"They come back byte for byte; so do the keys of maps and the texts within JSON.",
			run: texts,
		},
		{
			name: "create/invalid UTF-8",
			demands: "A text that is not valid UTF-8, as a cloud or a script may return it, is kept: each " +
				"invalid byte may become U+FFFD, the rest comes back, and the write is not refused.",
			run: invalidTexts,
		},
		{
			name: "create/IDs are exact",
			demands: "IDs are compared byte for byte: no folding of case, accents or Unicode forms, no patterns, no prefixes, no " +
				"cutting below 256 bytes. Group and instance IDs are any valid UTF-8 without NUL, task IDs letters, digits and hyphens.",
			run: exactIDs,
		},
		{
			name: "create/S13_ID taken",
			demands: "A second task of an ID is refused with ErrTaskExists, whatever else speaks against it (its group being held by the first, " +
				"a Prior that does not fit), and nothing is changed: repeated creations with a client token rely on it.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.begin("task-2", "group-2", 2)
				again := k.fresh("task-1", "group-1", 3)
				k.refused("the same task again", k.create(made(again)), rollingupgrade.ErrTaskExists)
				k.refused("its ID in another group", k.create(made(k.fresh("task-1", "group-3", 1))), rollingupgrade.ErrTaskExists)
				k.refused("its ID in a group held by another", k.create(made(k.fresh("task-1", "group-2", 1))), rollingupgrade.ErrTaskExists)
				idle := k.fresh("task-1", "group-3", 1)
				idle.HoldsGroup = false
				k.refused("its ID, holding no group", k.create(made(idle)), rollingupgrade.ErrTaskExists)
				fits, stale := k.next("task-2", ends, everything("x")), k.next("task-2", ends)
				stale.Head.Version += 3
				for _, prior := range []*change{&fits, &stale} {
					c := made(k.fresh("task-1", "group-2", 1))
					c.Prior = prior
					k.refused(fmt.Sprintf("its ID, with version %d of a prior task", prior.Head.Version), k.create(c), rollingupgrade.ErrTaskExists)
				}
			},
		},
		{
			name:    "read/unknown task",
			demands: "Load, Head, Events, Output and Save answer an unknown ID with ErrTaskNotFound, whatever the ID is made of, and a Save does not create it.",
			run:     unknownTasks,
		},
	}
}

func zeroValues(k *kit) {
	t := &task{Head: head{ID: "task-1", GroupID: "group-1", Version: 1, CreatedAt: k.now()}}
	t.Pause, t.PauseAsked, t.Restore = &rollingupgrade.Pause{}, &rollingupgrade.Pause{}, &rollingupgrade.Restore{}
	t.Ledger = rollingupgrade.Ledger{Call: &rollingupgrade.Call{}, Image: &rollingupgrade.ImageChange{}}
	t.Learned = map[string]rollingupgrade.PhaseTime{"": {}}
	t.Expired = []string{""}
	zero := 0
	t.Instances = []instance{
		{ID: "i-0001", ExitCode: &zero, Error: &rollingupgrade.Failure{}, Before: &provider.Before{}, Update: &provider.Update{}, Call: &rollingupgrade.Call{}},
		{ID: "i-0002", Pos: 1, Before: &provider.Before{Disk: &provider.Disk{}}, State: json.RawMessage(`""`)},
		{ID: "i-0003", Pos: 2},
	}
	k.mustCreate(creation{Task: t, Events: []event{{Seq: 1}}})
	k.mustCreate(creation{Task: &task{Head: head{ID: "task-2", GroupID: "group-1", Version: 1, CreatedAt: k.now()}}})
	k.mustSave(k.next("task-1", func(c *change) { c.Outputs = map[string]output{"i-0001": {}} }))
	k.same("after Create")
}

func texts(k *kit) {
	long := strings.Repeat(awkward, 100_000/len(awkward))
	quoted, err := json.Marshal(map[string]string{awkward: awkward})
	if err != nil {
		k.fatalf("%v", err)
	}
	t := k.fresh("task-1", "group-1", 2)
	t.Spec.Description, t.Reason, t.Spec.ClientToken = awkward, long, awkward
	t.Spec.Update = provider.Update{
		Kind: provider.ScriptUpdate, Params: quoted,
		Script: &provider.ScriptSpec{Type: provider.Shell, Content: awkward, Parameters: map[string]string{awkward: awkward}},
	}
	t.Learned = map[string]rollingupgrade.PhaseTime{awkward: {N: 1}}
	t.Requests = []rollingupgrade.Request{{ID: awkward, Hash: awkward}}
	t.Pause = &rollingupgrade.Pause{Text: awkward, Since: k.now()}
	r := &t.Instances[0]
	r.Note, r.Stays, r.State = awkward, long, quoted
	r.Error = &rollingupgrade.Failure{Kind: awkward, Text: long, At: k.now()}
	c := made(t)
	c.Events[0].Text = long
	k.mustCreate(c)
	k.same("after Create")
	for _, text := range []string{awkward, long} {
		k.mustSave(k.next("task-1", everything(text)))
		k.same("after Save")
	}
}

func invalidTexts(k *kit) {
	const bad = "begin \xff\xfe\xc3( \xe2\x82 \xed\xa0\x80 end"
	plain := func(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\ufffd", "") }
	t := k.fresh("task-1", "group-1", 1)
	t.Reason, t.Instances[0].Note = bad, bad
	c := made(t)
	c.Events[0].Text = bad
	k.mustCreate(c)
	k.mustSave(k.next("task-1", say(bad), prints("i-0000", bad)))
	got := k.mustLoad("task-1")
	o, err := k.output("task-1", "i-0000")
	if err != nil {
		k.fatalf("output: %v", err)
	}
	kept := map[string]string{"of the head": got.Reason, "of the output": o.Text}
	for n := range got.Instances {
		kept["of the row"] = got.Instances[n].Note
	}
	for _, e := range k.mustEvents("task-1", 0) {
		kept[fmt.Sprintf("of event %d", e.Seq)] = e.Text
	}
	if len(kept) != 5 {
		k.errorf("%d of 5 texts are kept", len(kept))
	}
	for what, text := range kept {
		if plain(text) != plain(bad) {
			k.errorf("text %s is %q, want %q with U+FFFD at most for what is invalid", what, text, bad)
		}
	}
	k.loose = true // the model knows the texts as they were
}

func exactIDs(k *kit) {
	long := strings.Repeat("g", 255)
	odd := []string{
		"g", "G", "gg", "g%", "g_", "%", "*", "g/1", "g/../g", "..", `g\1`, "g'1", `g"1`, "g:1", "g,1", "g 1", "g.1", "g-1", "g\n1",
		"gé", "ge\u0301", "ge", "ß", "ss", "ı", "i", "I", "中", "🚀", "0", "00", "1e1", "10", "null", "true", long + "a", long + "b", long,
	}
	for n, group := range odd {
		id := fmt.Sprintf("task-%d", n)
		t := k.fresh(id, group, 0)
		for pos, i := range odd {
			if n < 2 || i == group {
				t.Instances = append(t.Instances, instance{ID: i, Pos: pos, Note: fmt.Sprintf("%d", n)})
			}
		}
		k.mustCreate(made(t))
	}
	for n, group := range odd {
		if d := diff([]string{fmt.Sprintf("task-%d", n)}, ids(k.mustList(filter{GroupID: group}))); d != "" {
			k.errorf("tasks of group %q (-want +got):\n%s", group, d)
		}
	}
	k.mustSave(k.next("task-0", func(c *change) {
		for pos, i := range odd {
			prints(i, "output of "+i)(c)
			if pos%2 == 0 {
				rows(instance{ID: i, Pos: pos, Note: "changed " + i})(c)
			}
		}
	}))
	k.same("after Save")
	for _, id := range []string{"TASK-0", "Task-0", "task-", "task", "task-0 ", " task-0", "task-0\x00", "task-00", "task-_", "task-%", "task-?", "task-0/", "./task-0"} {
		k.absent("like another's ID", id)
	}
}

func unknownTasks(k *kit) {
	k.begin("task-1", "group-1", 1)
	for _, id := range []string{
		"task-2", "", " ", "/", ".", "..", "../task-1", "task-1/../task-1", "\x00", "task-1\x00", "a\xffb", "'; --", "%",
		strings.Repeat("x", 100_000), "i-0000", "group-1", "中🚀",
	} {
		k.absent("unknown", id)
		h := &head{ID: id, GroupID: "group-1", Version: 2}
		k.refused("Save of unknown "+short(id), k.save(change{Head: h}), rollingupgrade.ErrTaskNotFound)
		h = &head{ID: id, GroupID: "group-2", Version: 1, HoldsGroup: true, CreatedAt: time.Unix(1, 0).UTC()}
		c := change{Head: h, Rows: []instance{newRow(0)}, Outputs: map[string]output{"i-0000": {}}}
		say("x")(&c)
		k.refused("Save of unknown "+short(id), k.save(c), rollingupgrade.ErrTaskNotFound)
		k.absent("after Save", id)
	}
	_, err := k.output("task-1", strings.Repeat("x", 100_000))
	k.refused("Output of an unknown instance", err, rollingupgrade.ErrNoOutput)
	for _, id := range []string{"", "\x00", "a\xffb", "../i-0000", "%"} {
		_, err := k.output("task-1", id)
		k.refused(fmt.Sprintf("Output of instance %q", id), err, rollingupgrade.ErrNoOutput)
	}
	for _, group := range []string{"group-2", "\x00", "a\xffb", "%", strings.Repeat("x", 100_000)} {
		if got := k.mustList(filter{GroupID: group}); len(got) > 0 {
			k.errorf("group %q has the tasks %q", short(group), ids(got))
		}
	}
}
