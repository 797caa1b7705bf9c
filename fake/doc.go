// Package fake is a cloud in memory: scaling groups, instances, disks, images, Cloud Assistant and
// load balancer weights. It is for tests of programs that embed package rollingupgrade, and for examples.
//
//	cloud := fake.Demo(fake.Config{}, 10) // group asg-demo, i-0001 to i-0010, images img-v1 and img-v2
//
// A [Cloud] is a [provider.Provider], a [provider.Inspector] and a [provider.ConfigurationSetter].
// It has two levels. [Cloud.API] makes the cloud's own actions ("wire calls": StopInstances, ReplaceSystemDisk,
// RunCommand), which refuse what the real ones refuse, with the real codes ([APIError]). The methods of
// the Provider are made of wire calls. Both levels act on one model.
//
// # What it models
//
// Standby sets the load balancer weight to zero. Orders are accepted at once and carried out
// over time ([Steps]). A disk is replaced on a Stopped instance only; the new one has another ID, the default
// size if none is passed, and neither key pair nor snapshot policy of the old one. Scripts run for a while and
// end with an exit code and output. Processes that are suspended do not act, and those that are
// not do: an instance that is not Running while it is in service is taken out and released.
// Client tokens are remembered for a while. Where the real cloud's behaviour is not documented, [Config] has a switch.
//
// # Time
//
// Time is time.Now and timers, so that in a testing/synctest bubble hours pass in milliseconds. Nothing runs in the
// background: what happens over time is computed when somebody looks. For programs
// that run in real time, [Config.Speed] and [Instant] shorten all durations.
//
// # Determinism
//
// IDs are counted (i-0001, d-0001, t-0001, asa-0001), lists are in the order of insertion, and there is no chance without
// [Config.Seed]. Calls that arrive within one microsecond are handled in the order (operation, group, targets), and no two calls
// answer at the same instant. The same program makes the same [Cloud.Calls] byte for byte, whatever the
// scheduler does, in a bubble.
//
// # Interfering and looking
//
// [Cloud.Inject] takes faults: which call fails, how, and whether its effect happens. [Cloud.Now] and
// [Cloud.After] change the world as other people and the cloud itself do: instances join, leave or vanish, processes are resumed, agents
// are silent. [Behavior] makes one instance special: its script fails, its stop hangs.
//
// [Cloud.Snapshot], [Cloud.InstanceView] and [Cloud.GroupView] show the state, [Cloud.Calls] what the client called, [Cloud.Effects] what
// came of it, and [Cloud.Violations] what a correct client would not have done.
package fake
