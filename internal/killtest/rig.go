package killtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// Config says what a run does. Name, Address, Open and Processes must be set.
type Config struct {
	// Name is the store's, for the report.
	Name string
	// Open opens the store, here and in the workers.
	Open Open
	// Address makes the address of an empty store for a round; dir goes away after it.
	Address func(ctx context.Context, dir string) (string, error)
	// Processes is how many serve the store at a time.
	Processes int
	Seed      uint64
	// Groups is how many groups there are, and Instances how many each has. Zero means 50 and 20.
	Groups, Instances int
	// Tasks is how many tasks a process drives at a time. Zero means two fifths of the groups, so that three processes have a little room.
	Tasks int
	// Every is the time between two strokes on the average, at first; it grows slowly, so that the tasks come to an end on slow machines too.
	Every time.Duration
	// Kills and Freezes are how many there must be at least. As long as there are fewer, or with AllKinds a kind of operation was
	// in flight at no kill yet, another round begins with tasks of its own. Zero: one round.
	Kills, Freezes int
	AllKinds       bool
	// Dir is for files; it must exist. The files of a round in which something does not hold stay there.
	Dir string
	// Out gets a line for each round; may be nil.
	Out io.Writer
}

func (cfg Config) withDefaults() Config {
	if cfg.Groups == 0 {
		cfg.Groups = 50
	}
	if cfg.Instances == 0 {
		cfg.Instances = 20
	}
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	return cfg
}

// timing is legal and quick: a lease of three seconds.
func timing(forget bool) Timing {
	t := Timing{
		Lease: 3 * time.Second, Renew: 500 * time.Millisecond, CallLimit: 1500 * time.Millisecond, Margin: 250 * time.Millisecond,
		Poll: 250 * time.Millisecond, TokenTrust: 5 * time.Minute, Lookup: 2 * time.Minute, Grace: 3 * time.Second,
	}
	if forget {
		t.TokenTrust, t.Lookup = 2*time.Second, 2*time.Second
	}
	return t
}

// roundLimit is how long the tasks of one round may take.
const roundLimit = 5 * time.Minute

// Run runs rounds until enough has been done, and reports on all of them. Its error says that it could not do its work; what does not hold is in
// the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	total := newReport(cfg)
	missing := map[string]bool{}
	for _, k := range Kinds() {
		missing[k] = true
	}
	began := time.Now()
	for n := uint64(0); ; n++ {
		w, err := cfg.round(ctx, cfg.Seed+n, n%2 == 1, func(ctx context.Context, r *round) {
			k := &killer{
				crew: r.crew, cloud: r.cloud, chance: rand.New(rand.NewPCG(cfg.Seed+n, 3)), every: cfg.Every, //nolint:gosec // a test's draw
				lease: r.set.Timing.Lease, missing: missing, aims: cfg.AllKinds && n > 0,
			}
			k.run(ctx)
		})
		if err != nil {
			return total, err
		}
		total.add(w)
		total.Took = time.Since(began)
		fmt.Fprintf(cfg.Out, "%s round %d: %d tasks, %d kills, %d freezes, %d take-overs, %d effects, %d violations; %s so far\n", cfg.Name, n+1,
			total.Tasks, total.Kills, total.Short+total.Long, len(total.Silent), total.Effects, len(total.Violations), total.Took.Round(time.Second))
		enough := total.Kills >= cfg.Kills && total.Short+total.Long >= cfg.Freezes && (!cfg.AllKinds || len(missing) == 0)
		if enough || len(total.Violations) > 0 {
			return total, nil
		}
	}
}

// Rolling replaces each worker twice by asking it to end, one after the other, as a rolling restart does. Beyond what holds in any round, each task
// must be handed on at once: no lease may run out.
func Rolling(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	cfg.Groups = min(cfg.Groups, 20)
	cfg.Tasks = cfg.Groups // nothing waits because all are busy
	total := newReport(cfg)
	began := time.Now()
	w, err := cfg.round(ctx, cfg.Seed, false, func(ctx context.Context, r *round) {
		pause(ctx, 2*time.Second)
		for n := 0; n < 2*cfg.Processes && ctx.Err() == nil; n++ {
			if p := r.crew.await(ctx, n%cfg.Processes); p != nil {
				r.crew.note(outage{kind: "graceful end", process: p.name})
				r.crew.finish(p)
			}
			pause(ctx, 500*time.Millisecond)
		}
	})
	if err != nil {
		return total, err
	}
	lease := w.round.set.Timing.Lease
	if n := len(w.silent); n > 0 {
		w.fault("Serve: %d leases were left to run out (%s)", n, spread(w.silent))
	}
	for _, d := range w.handed {
		if d >= lease && w.round.shared() {
			w.fault("Serve: a task that was handed back waited %s", d)
		}
	}
	if len(w.handed) == 0 {
		w.fault("Serve: no task was handed on")
	}
	total.add(w)
	total.Took = time.Since(began)
	return total, nil
}

// A round is one world, one store, and what is done to them.
type round struct {
	set      settings
	scenes   []scene
	crew     *crew
	cloud    *process
	operator *operator
}

// round lets the scenes of a seed play while strike does its harm, and gathers what there is to say about it.
func (cfg *Config) round(ctx context.Context, seed uint64, forget bool, strike func(context.Context, *round)) (*witness, error) {
	dir, err := os.MkdirTemp(cfg.Dir, "round")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "workers.log")) //nolint:gosec // the rig's own
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // it is read before
	r := &round{set: settings{Seed: seed, Groups: cfg.Groups, Instances: cfg.Instances, Forget: forget, Timing: timing(forget)}}
	r.set.Tasks = cmp.Or(cfg.Tasks, max(4, cfg.Groups*2/5))
	r.scenes = draw(&r.set)
	if r.set.Store, err = cfg.Address(ctx, dir); err != nil {
		return nil, err
	}
	s := r.set
	s.Role, s.Name = "cloud", "cloud"
	if r.cloud, err = startProcess(ctx, s, log); err != nil {
		return nil, err
	}
	defer r.cloud.end()
	r.set.Cloud = r.cloud.said
	r.crew = &crew{base: r.set, dir: dir, log: log}
	if err := r.crew.fill(ctx, cfg.Processes); err != nil {
		r.crew.close(false)
		return nil, err
	}
	err = r.play(ctx, strike)
	r.crew.close(err == nil)
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("seed %d: %w\n%s", seed, err, tail(text))
	}
	w, err := r.gather(ctx, cfg, dir)
	if err != nil {
		return nil, err
	}
	if w.judge(); len(w.violations)+len(r.crew.problems) == 0 {
		err = os.RemoveAll(dir)
	}
	return w, err
}

func tail(text []byte) []byte { return text[max(0, len(text)-4000):] }

// play plays all scenes.
func (r *round) play(ctx context.Context, strike func(context.Context, *round)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, roundLimit, errors.New("the tasks have not ended in time"))
	defer cancel()
	r.operator = &operator{crew: r.crew, tasks: map[string]bool{}, refused: map[string]int{}}
	beside, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() { r.operator.watch(beside) })
	others.Go(func() { strike(beside, r) })
	errs := make([]error, len(r.scenes))
	var all sync.WaitGroup
	for n := range r.scenes {
		chance := rand.New(rand.NewPCG(r.set.Seed, 100+uint64(n))) //nolint:gosec // a test's draw
		all.Go(func() {
			if err := r.operator.play(ctx, &r.scenes[n], chance); err != nil {
				errs[n] = fmt.Errorf("%s (%s): %w", r.scenes[n].spec.GroupID, r.scenes[n].ending, err)
			}
		})
	}
	all.Wait()
	stop()
	others.Wait()
	return errors.Join(errs...)
}

// gather reads what the cloud, the journals and the store say.
func (r *round) gather(ctx context.Context, cfg *Config, dir string) (*witness, error) {
	w := &witness{round: r, tasks: map[string]*ru.Task{}, events: map[string][]ru.Event{}}
	if err := ask(ctx, time.Minute, r.cloud.address, "/testify", struct{}{}, &w.testimony); err != nil {
		return nil, err
	}
	text, err := json.Marshal(w.testimony)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cloud.json"), text, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if w.entries, err = readJournals(dir); err != nil {
		return nil, err
	}
	store, closeStore, err := cfg.Open(ctx, r.set.Store)
	if err != nil {
		return nil, err
	}
	for h, err := range store.List(ctx, ru.Filter{}) {
		if err != nil {
			return nil, errors.Join(err, closeStore())
		}
		w.order = append(w.order, h.ID)
	}
	for _, id := range w.order {
		if w.tasks[id], err = store.Load(ctx, id); err != nil {
			return nil, errors.Join(err, closeStore())
		}
		for e, err := range store.Events(ctx, id, 0) {
			if err != nil {
				return nil, errors.Join(err, closeStore())
			}
			w.events[id] = append(w.events[id], e)
		}
	}
	return w, closeStore()
}
