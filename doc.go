// Package rollingupgrade changes the configuration of many ECS instances of an Alibaba Cloud Auto Scaling group, batch by
// batch: it replaces the image of their system disks, or runs a script on them. A Go service embeds it.
//
//	runner, err := rollingupgrade.New(provider, store, rollingupgrade.Config{})
//	task, err := runner.Create(ctx, rollingupgrade.Spec{
//		GroupID:  "asg-1",
//		Update:   rollingupgrade.Image("m-new"),
//		Rollback: rollingupgrade.Image("m-old"),
//		Batches:  rollingupgrade.InBatches(2),
//		Pause:    rollingupgrade.PausePolicy{Mode: rollingupgrade.PauseFirstBatch},
//	})
//	err = runner.Run(ctx, task.ID)      // until the first batch is done
//	err = runner.Continue(ctx, task.ID) // then Run again
//
// # Nouns
//
// A [Task] is one rolling upgrade or one rollback of one scaling group. It is plain data: a [Head], a row for each [Instance], and
// the [Event] log. A [Spec] says what a task shall do, a [Plan] what it would do right now, an [Explanation] what it waits for and
// which commands are legal.
//
// A [Runner] creates tasks, takes commands for them and drives them: [Runner.Run] one task, [Runner.Serve] all tasks of a [Store].
// It reaches the cloud through a [provider.Provider] and keeps everything it knows in the Store. Policies ([PausePolicy],
// [FailurePolicy], [VerifyPolicy]) are data and part of the task. [Hooks] are code and part of the Runner; those that decide return a
// [Decision].
//
// # What a task does
//
// It suspends the group's scaling processes, waits until no scaling activity is in progress, and makes its plan final. Then, batch
// after batch: its instances go to Standby, where a load balancer sends them nothing; they are drained, updated and verified; each
// goes back in service as soon as it is done. In the end the image of the scaling configuration is set and the processes
// that the task suspended are resumed.
//
// # States
//
// A task is pending, then running. It waits for the operator in batch_paused (the pause policy, a hook, the operator or a step
// that failed asked for it; Continue goes on) and in failure_paused (each failed instance wants Retry, Skip or CancelInstances). It
// ends succeeded, failed or canceled. Cancel leads to the latter by way of canceling, which brings what is in flight to a safe end.
// What a task leaves behind is listed by [Task.Leftovers], and put back by [Runner.Restore] or by the next task of the group. A
// waiting task and the group's most recent one can be rolled back: [Runner.Rollback] makes a task of its own.
//
// An instance is pending, running (with a [Step]), succeeded (perhaps marked skipped or up to date), failed (perhaps marked
// canceled), or gone. One table decides which command is legal in which state; [Runner.Explain] reads it out, and a command that
// it does not allow returns a [CommandError] which names those that it does.
//
// # What survives a crash
//
// Everything but the process. A task is saved before each call of the provider, with the name of the side effect that the call
// makes, and again after it. Whoever drives the task next, in any process that can open the store, looks first at what the cloud
// shows and then goes on from the last save. Nothing is done twice: names are derived from task, instance and attempt, so that
// the cloud recognizes a call that is sent again; where too much time has passed for that, the Runner looks for what the lost
// call did; what cannot be found fails as "outcome unknown" and is not run again until the operator says so.
//
// One Runner at a time drives a task. It owns it by a lease in the record and renews it; another one takes over when the renewals
// stop for longer than [Config.Lease]. A lease compares no clocks of different machines. Commands may be given in any process, also
// while nobody drives the task.
//
// Two limits. A process that is frozen between its last look at the lease and the write to the socket can still send that
// one call late; it carries the same name as the new owner's, so that the cloud counts it once as long as it remembers the name. And
// how long Alibaba Cloud remembers client tokens is not documented; [Config.TokenTrust] is the caution.
//
// # Writing a provider
//
// Implement [provider.Provider] for another cloud. A provider reports and never decides: no waiting, no retries, no policy.
// It makes a side effect only when the call names it ([provider.Target]), and classifies errors by wrapping the sentinels of package
// provider. Package provider/providertest is the suite for it. An own kind of update on a cloud that is supported is a
// [provider.Updater] in [Config.Kinds].
//
// # Writing a store
//
// Implement [Store]. A [Change] is written as a whole or not at all, compare-and-swap on the head's version; and at most one task
// holds a group. Package store/storetest is the suite for it. [MemoryStore] is for tests.
//
// # Testing
//
// Package fake is a cloud in memory that refuses what the real one refuses, with faults to inject. In a testing/synctest bubble hours
// of an upgrade pass in milliseconds, so that a program can test its policies and hooks, its reactions to failures, and its own
// death at any moment.
package rollingupgrade
