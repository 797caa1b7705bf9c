package storetest

import (
	"github.com/rollingupgrade/rollingupgrade"
)

func lostCases() []draft {
	return []draft{
		{
			name: "lost/answer of a Save",
			demands: "A save whose answer was lost is told by its nonce, which Head, Load and List show until the next save. Passed once more it gets " +
				"ErrVersionConflict and is not done twice.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				for n := range 3 {
					c := k.next("task-1", everything("x"))
					again, nonce := clone(c), c.Head.Nonce
					k.mustSave(c)
					for range 2 {
						k.refused("the same change again", k.save(clone(again)), rollingupgrade.ErrVersionConflict)
						k.named(nonce)
					}
					k.same("after repetition")
					if n == 1 { // somebody else saves on top
						c := k.next("task-1", say("on top"))
						nonce := c.Head.Nonce
						k.mustSave(c)
						k.refused("the change before, again", k.save(clone(again)), rollingupgrade.ErrVersionConflict)
						k.named(nonce)
					}
				}
			},
		},
		{
			name: "lost/answer of a Create",
			demands: "A creation whose answer was lost is told by its nonce. Passed once more it gets ErrTaskExists, and neither " +
				"the task nor its Prior is changed twice.",
			run: func(k *kit) {
				k.begin("task-0", "group-1", 2)
				p := k.next("task-0", everything("taken over"), ends)
				c := made(k.fresh("task-1", "group-1", 2))
				c.Prior = &p
				again, nonce := clone(c), c.Task.Nonce
				k.mustCreate(c)
				for range 2 {
					k.refused("the same creation again", k.create(clone(again)), rollingupgrade.ErrTaskExists)
					k.named(nonce)
				}
				if got := k.mustHead("task-0").Nonce; got != again.Prior.Head.Nonce {
					k.errorf("nonce %q of the prior task, want %q", got, again.Prior.Head.Nonce)
				}
			},
		},
		{
			name:    "lost/never sent",
			demands: "A refused change does not spoil its version: the same change is accepted when nothing speaks against it any more.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", ends))
				k.begin("task-2", "group-1", 1)
				c := k.next("task-1", everything("x"), holds(true))
				k.busy("while another holds the group", k.save(clone(c)), "group-1", "task-2")
				k.mustSave(k.next("task-2", ends))
				early := clone(c)
				early.Head.Version++
				k.refused("a version too early", k.save(clone(early)), rollingupgrade.ErrVersionConflict)
				k.mustSave(c)
				k.same("when the group is free")
				early.Events[0].Seq++
				early.Head.EventSeq++
				k.mustSave(early)
			},
		},
	}
}

// named holds that task-1 shows the nonce everywhere.
func (k *kit) named(nonce string) {
	for method, got := range map[string]string{
		"Head": k.mustHead("task-1").Nonce,
		"Load": k.mustLoad("task-1").Nonce,
		"List": k.mustList(filter{GroupID: "group-1", Limit: 1})[0].Nonce,
	} {
		if got != nonce {
			k.errorf("%s shows nonce %q, want %q", method, got, nonce)
		}
	}
}
