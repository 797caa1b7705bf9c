//go:build race

package rollingupgrade_test

// raceEnabled says that the race detector is on: the sweep then runs the small scenarios only.
const raceEnabled = true
