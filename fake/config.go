package fake

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Forever is longer than any test. As a step's duration it makes the step hang; as
// [Config.TokenMemory] or [Config.CommandMemory] it makes the cloud never forget.
const Forever = 100 * 365 * 24 * time.Hour

// Config sets how a [Cloud] behaves. The zero Config is a cloud with realistic
// latencies and durations and without chance.
//
// A zero duration means the default, a negative one means none.
type Config struct {
	// Latency is how long calls take until they answer.
	Latency Latency
	// Steps is how long it takes until an accepted order has been carried out.
	Steps Steps

	// Speed divides every duration of the model: latencies, steps, [Behavior] and [ScriptResult] durations, the
	// health check, activities and the Wait that the provider advises. Zero counts as 1. Use it for programs that run in
	// real time; a testing/synctest bubble does not need it. TokenMemory, CommandMemory,
	// [Fault.Delay] and the delay of [Cloud.After] are not divided.
	Speed float64

	// Seed, together with Jitter and Tail, makes durations vary. The draw depends on Seed, the operation, the
	// instance and how often that pair was drawn, not on scheduling. Zero switches it off.
	Seed uint64
	// Jitter is by what share a duration is longer at most: 0.2 means up to 20 %.
	Jitter float64
	// Tail is the share of durations that are TailFactor times as long. TailFactor zero counts as 10.
	Tail, TailFactor float64

	// HealthCheck is how long an instance that is in service and not Running goes unnoticed. Default 1 min.
	HealthCheck time.Duration
	// Release is how long it takes from taking an instance out to its release. Default 1 min.
	Release time.Duration
	// Scale is how long it takes until a difference to the desired capacity is acted on. Default 1 min.
	Scale time.Duration

	// TokenMemory is how long client tokens are remembered. Default 10 min; negative: not at all.
	TokenMemory time.Duration
	// CommandMemory is how long invocations can be looked up. Default 24 h; negative: not at all.
	CommandMemory time.Duration

	// What follows are switches for what the real cloud does not document.

	// PartialStandby makes a call of EnterStandby or ExitStandby that has an unfit instance
	// act on the fit ones all the same. Otherwise the whole call is refused.
	PartialStandby bool
	// ProtectedToStandby lets EnterStandby accept Protected instances.
	ProtectedToStandby bool
	// StandbyTwice makes EnterStandby accept instances that are in Standby already, and ExitStandby those that
	// are in service; nothing happens to them. Otherwise they are unfit.
	StandbyTwice bool
	// StandbyActivities makes EnterStandby and ExitStandby scaling activities that are in progress until the call has answered.
	StandbyActivities bool
	// AutoStartAfterReplace starts instances by itself when their disk has been replaced.
	AutoStartAfterReplace bool
	// StopLetsScriptsRun makes StopInvocation cancel only what has not begun; a running script goes on.
	// Otherwise it is killed.
	StopLetsScriptsRun bool
	// SilentAgentAccepted makes RunCommand accept instances whose agent is silent: a minute later the script ends
	// Aborted on them, as not delivered. Otherwise the whole call is refused.
	SilentAgentAccepted bool
	// NoCommandLookup makes invocations of commands that were not kept impossible to find by their command's name.
	NoCommandLookup bool
	// StatesFirst makes RunCommand look at the states of instances before it recalls the client token: one that is sent again is refused
	// if an instance has ceased to run since.
	StatesFirst bool
	// ActivitiesBlock makes EnterStandby and ExitStandby answer "busy" while an activity is in progress.
	ActivitiesBlock bool

	// ReplaceTargets is how many instances one call of Update takes for a replacement of the
	// system disk (one wire call each). Default 10.
	ReplaceTargets int

	// Script decides how scripts end on instances that have no [Behavior.Scripts]. Nil means exit code 0.
	// It is called with the cloud locked: it must not call the cloud, and must depend on nothing but its argument.
	Script func(ScriptRun) ScriptResult

	// NoLog switches off [Cloud.Calls] and [Cloud.Effects], for benchmarks with very many instances.
	NoLog bool
}

// Latency is how long calls take until they answer. The effect of an accepted call is there at once,
// the answer comes after the latency. A method of the Provider makes one or more wire calls.
type Latency struct {
	Read    time.Duration // calls that only read; default 50 ms
	Write   time.Duration // calls that change something; default 200 ms
	Standby time.Duration // EnterStandby and ExitStandby; default 3 s
	Replace time.Duration // ReplaceSystemDisk; default 500 ms
}

// Steps is how long it takes until an accepted order has been carried out.
type Steps struct {
	Stop    time.Duration // Stopping until Stopped; default 30 s
	Replace time.Duration // the new system disk is in use; default 240 s
	Start   time.Duration // Starting until Running; default 40 s
	Agent   time.Duration // from Running until the Cloud Assistant agent answers; default 20 s
	Script  time.Duration // a script runs; default 30 s
}

// Instant returns a Config in which nothing takes time, for programs that run in real time.
func Instant() Config { return Config{Speed: math.Inf(1)} }

func (cfg Config) withDefaults() Config {
	def := func(d *time.Duration, to time.Duration) {
		switch {
		case *d == 0:
			*d = to
		case *d < 0:
			*d = 0
		}
	}
	def(&cfg.Latency.Read, 50*time.Millisecond)
	def(&cfg.Latency.Write, 200*time.Millisecond)
	def(&cfg.Latency.Standby, 3*time.Second)
	def(&cfg.Latency.Replace, 500*time.Millisecond)
	def(&cfg.Steps.Stop, 30*time.Second)
	def(&cfg.Steps.Replace, 240*time.Second)
	def(&cfg.Steps.Start, 40*time.Second)
	def(&cfg.Steps.Agent, 20*time.Second)
	def(&cfg.Steps.Script, 30*time.Second)
	def(&cfg.HealthCheck, time.Minute)
	def(&cfg.Release, time.Minute)
	def(&cfg.Scale, time.Minute)
	def(&cfg.TokenMemory, 10*time.Minute)
	def(&cfg.CommandMemory, 24*time.Hour)
	if cfg.Speed <= 0 {
		cfg.Speed = 1
	}
	if cfg.TailFactor <= 0 {
		cfg.TailFactor = 10
	}
	if cfg.ReplaceTargets <= 0 {
		cfg.ReplaceTargets = 10
	}
	return cfg
}

// scaled is d at the cloud's speed.
func (c *Cloud) scaled(d time.Duration) time.Duration {
	if c.cfg.Speed == 1 || d <= 0 {
		return max(d, 0)
	}
	return time.Duration(float64(d) / c.cfg.Speed)
}

// took is how long operation op on instance id takes, with jitter and tail. c.mu is held.
func (c *Cloud) took(op, id string, d time.Duration) time.Duration {
	d = c.scaled(d)
	if c.cfg.Seed == 0 || d == 0 {
		return d
	}
	key := op + " " + id
	c.draws[key]++
	f := float64(d)
	f *= 1 + c.cfg.Jitter*c.draw(key, "jitter")
	if c.draw(key, "tail") < c.cfg.Tail {
		f *= c.cfg.TailFactor
	}
	return time.Duration(f)
}

// draw returns a number in [0,1) for the present count of key.
func (c *Cloud) draw(key, what string) float64 {
	h := fnv.New64a()
	var b [16]byte
	for i := range 8 {
		b[i] = byte(c.cfg.Seed >> (8 * i))
		b[8+i] = byte(uint64(c.draws[key]) >> (8 * i))
	}
	h.Write(b[:])
	h.Write([]byte(key))
	h.Write([]byte(what))
	x := h.Sum64()
	x ^= x >> 33 // mix: the low bits of FNV are good, the high ones are not
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// advise is the Wait that the provider face gives.
func (c *Cloud) advise(d time.Duration) time.Duration {
	return max(c.scaled(d), time.Millisecond)
}

// latencyOf is the latency of the wire call op on its first target. c.mu is held.
func (c *Cloud) latencyOf(op, first string) time.Duration {
	d, set := c.latencies[op]
	if !set {
		switch op {
		case "EnterStandby", "ExitStandby":
			d = c.cfg.Latency.Standby
		case "ReplaceSystemDisk":
			d = c.cfg.Latency.Replace
		default:
			d = c.cfg.Latency.Write
			if len(op) > 8 && op[:8] == "Describe" {
				d = c.cfg.Latency.Read
			}
		}
	}
	return c.took("latency "+op, first, d)
}

// SetLatency sets how long calls of op take. For a method of the Provider ("Update") it is the whole time that
// the method takes, for a wire call ("StopInstances") the time of each such call. Where a
// method and a wire call have the same name ("EnterStandby") it is the method that counts.
func (c *Cloud) SetLatency(op string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latencies[op] = max(d, 0)
}

// Limits implements [provider.Provider]: the counts that the real calls document.
func (c *Cloud) Limits() provider.Limits {
	return provider.Limits{Instances: 100, Standby: 20, Protection: 20, Start: 100, Update: 100}
}
