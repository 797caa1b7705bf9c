// Package killtest kills and freezes real processes that drive tasks, and holds what came of it against the rules.
//
// A test binary that calls [Child] in its TestMain is executed again: as the cloud (package fake/openapi over a [fake.Cloud] with many groups),
// and as workers, which serve one store. The parent gives the commands of an operator to whichever worker answers, and meanwhile sends SIGKILL, SIGSTOP
// and SIGCONT, and SIGTERM, until all tasks have ended. Then it compares three witnesses: what the cloud did and for which request,
// what each worker wrote down around its saves, and the records in the store.
//
// What happens depends on the scheduler: the seed repeats what is asked for, not the run.
package killtest
