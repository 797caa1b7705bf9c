package fake

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Cloud is scaling groups, instances, disks, images and Cloud Assistant in memory.
// It implements [provider.Provider], [provider.Inspector] and [provider.ConfigurationSetter].
// All methods are safe for concurrent use. Make one with [NewCloud] or [Demo].
type Cloud struct {
	cfg Config

	mu       sync.Mutex // never held while sleeping
	now      time.Time  // the moment that the model has reached
	created  time.Time
	events   eventHeap
	eventSeq int

	waiting []*request     // calls that arrived and were not handled yet
	wakes   map[int64]bool // instants at which a sleeping call wakes

	images     map[string]*provider.Image
	imageOrder []string
	groups     map[string]*group
	groupOrder []*group
	instances  map[string]*instance
	made       []*instance     // the same, in the order in which they were made
	gone       map[string]bool // instances that were released
	configs    map[string]*configuration
	configIDs  []string
	disks      map[string]*instance // by system disk
	activities map[string]*activity

	commands map[string]*invocation   // by invocation ID
	byName   map[string][]*invocation // by command name

	tokens    map[string]remembered
	tags      map[string][]Tag // by instance or group
	latencies map[string]time.Duration
	draws     map[string]int
	counts    map[string]int // last number given out, by prefix

	faults     []*fault
	calls      []*Call
	callSeq    int
	effects    []Effect
	violations []string
}

var (
	_ provider.Provider            = (*Cloud)(nil)
	_ provider.Inspector           = (*Cloud)(nil)
	_ provider.ConfigurationSetter = (*Cloud)(nil)
)

// NewCloud returns an empty cloud. Fill it with [Cloud.AddGroup].
func NewCloud(cfg Config) *Cloud {
	now := time.Now()
	return &Cloud{
		cfg:        cfg.withDefaults(),
		now:        now,
		created:    now,
		wakes:      make(map[int64]bool),
		images:     make(map[string]*provider.Image),
		groups:     make(map[string]*group),
		instances:  make(map[string]*instance),
		gone:       make(map[string]bool),
		configs:    make(map[string]*configuration),
		disks:      make(map[string]*instance),
		activities: make(map[string]*activity),
		commands:   make(map[string]*invocation),
		byName:     make(map[string][]*invocation),
		tokens:     make(map[string]remembered),
		tags:       make(map[string][]Tag),
		latencies:  make(map[string]time.Duration),
		draws:      make(map[string]int),
		counts:     make(map[string]int),
	}
}

// Names in the world that [Demo] makes.
const (
	DemoGroup    = "asg-demo"
	DemoOldImage = "img-v1"
	DemoNewImage = "img-v2"
)

// Demo returns a cloud with one group, [DemoGroup], of n instances in service that run [DemoOldImage],
// behind one load balancer, and a second image, [DemoNewImage].
func Demo(cfg Config, n int) *Cloud {
	c := NewCloud(cfg)
	c.AddImages(provider.Image{ID: DemoOldImage}, provider.Image{ID: DemoNewImage})
	c.AddGroup(GroupSpec{ID: DemoGroup, Instances: n, ImageID: DemoOldImage, LoadBalancers: []string{"lb-demo"}})
	return c
}

// nextID counts up: i-0001, d-0001, t-0001, asa-0001.
func (c *Cloud) nextID(prefix string) string {
	c.counts[prefix]++
	return fmt.Sprintf("%s-%04d", prefix, c.counts[prefix])
}

// configuration is a scaling configuration or a launch template.
type configuration struct {
	id                 string
	groupID            string
	launchTemplate     bool
	imageID            string
	keyPair            string
	userData           string
	dataDisks          json.RawMessage
	dataDisksFromImage bool
}
