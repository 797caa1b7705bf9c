package rollingupgrade_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// A position is one position of one switch: of the cloud, of the stand-in for the wire, or of the provider.
type position struct {
	// of is the switch: "fake.TokenMemory".
	of, is string
	cloud  func(c *fake.Config)
	wire   func(c *openapi.Config)
	own    func(c *aliyun.Config)
	// blind says that nobody can find out how a script ended.
	blind bool
	// lost says that a script that was sent long ago cannot be found.
	lost bool
	// weak says that less than usual tells whether a script was sent already: two such positions at a time leave nothing.
	weak bool
}

func (p position) String() string { return strings.TrimSpace(p.of + " " + p.is) }

// positions are all positions of all switches besides those that everything else is run with.
func positions() []position {
	all := []position{
		{of: "all as usual"},
		{of: "fake.TokenMemory", is: "none", cloud: func(c *fake.Config) { c.TokenMemory = -1 }, weak: true},
		{of: "fake.TokenMemory", is: "10 min", cloud: func(c *fake.Config) { c.TokenMemory = 10 * time.Minute }},
		{of: "fake.TokenMemory", is: "for ever", cloud: func(c *fake.Config) { c.TokenMemory = fake.Forever }},
		{of: "fake.CommandMemory", is: "none", cloud: func(c *fake.Config) { c.CommandMemory = -1 }, blind: true, weak: true},
		{of: "fake.CommandMemory", is: "10 min", cloud: func(c *fake.Config) { c.CommandMemory = 10 * time.Minute }, lost: true, weak: true},
		{of: "fake.CommandMemory", is: "for ever", cloud: func(c *fake.Config) { c.CommandMemory = fake.Forever }},
		{of: "fake.NoCommandLookup", is: "on", cloud: func(c *fake.Config) { c.NoCommandLookup = true }, lost: true, weak: true},
		{of: "fake.Seed", is: "7 with jitter and tail", cloud: func(c *fake.Config) { c.Seed, c.Jitter, c.Tail, c.TailFactor = 7, 0.5, 0.1, 4 }},
		{of: "openapi.Secret", is: "another", wire: func(c *openapi.Config) { c.Secret = "another" }, own: withSecret("another")},
		{of: "openapi.AccessKeys", is: "one", wire: func(c *openapi.Config) { c.AccessKeys = []string{"test-key-id"} }},
		{of: "openapi.Region", is: "one", wire: func(c *openapi.Config) { c.Region = "cn-hangzhou" }},
		{of: "openapi.Skew", is: "not checked", wire: func(c *openapi.Config) { c.Skew = -1 }},
		{of: "openapi.RequireTLS", is: "off", wire: func(c *openapi.Config) { c.RequireTLS = false }, own: func(c *aliyun.Config) {
			c.Endpoints = aliyun.Endpoints{ESS: "http://ess.test", ECS: "http://ecs.test"}
		}},
		{of: "openapi.Rates", is: "low", wire: func(c *openapi.Config) {
			c.Rates = map[string]int{"DescribeInstances": 12, "DescribeDisks": 12, "EnterStandby": 1, "StopInstances": 1, "RunCommand": 1, "DescribeInvocationResults": 3}
		}},
		{of: "openapi.MembersPage", is: "100", wire: func(c *openapi.Config) { c.MembersPage = 100 }},
		{of: "openapi.ResultDelay", is: "20 s", wire: func(c *openapi.Config) { c.ResultDelay = 20 * time.Second }, weak: true},
		{of: "openapi.PendingFor", is: "2 s", wire: func(c *openapi.Config) { c.PendingFor = 2 * time.Second }},
		{of: "openapi.StaleAgent", is: "2 min", wire: func(c *openapi.Config) { c.StaleAgent = 2 * time.Minute }},
		{of: "aliyun.FindsCommands", is: "on", own: func(c *aliyun.Config) { c.FindsCommands = true }, weak: true},
		{of: "aliyun.ReplaceTargets", is: "1", own: func(c *aliyun.Config) { c.ReplaceTargets = 1 }},
		{of: "aliyun.Poll", is: "1 s", own: func(c *aliyun.Config) { c.Poll = time.Second }},
		{of: "aliyun.Timeout", is: "10 s", own: func(c *aliyun.Config) { c.Timeout = 10 * time.Second }},
		{of: "aliyun.Share", is: "a tenth", own: func(c *aliyun.Config) { c.Share = 0.1 }},
		{of: "aliyun.Rates", is: "low", own: func(c *aliyun.Config) { c.Rates = map[string]aliyun.Rate{"*": {PerSecond: 0.5, Burst: 3}} }},
	}
	for _, name := range onOff(fake.Config{}) {
		if !slices.ContainsFunc(all, func(p position) bool { return p.of == "fake."+name }) {
			all = append(all, position{of: "fake." + name, is: "on", cloud: func(c *fake.Config) { turnOn(c, name) }})
		}
	}
	for _, name := range onOff(openapi.Config{}) {
		if !slices.ContainsFunc(all, func(p position) bool { return p.of == "openapi."+name }) {
			all = append(all, position{of: "openapi." + name, is: "on", wire: func(c *openapi.Config) { turnOn(c, name) }})
		}
	}
	return all
}

// noSwitches are fields of the configurations that are no switches.
var noSwitches = map[string]string{
	"fake.Latency": "a duration", "fake.Steps": "durations", "fake.Speed": "of real time", "fake.Jitter": "with Seed", "fake.Tail": "with Seed", "fake.TailFactor": "with Seed",
	"fake.HealthCheck": "a duration", "fake.Release": "a duration", "fake.Scale": "a duration", "fake.ReplaceTargets": "of the fake's own methods",
	"fake.Script": "a hook", "fake.NoLog": "the effects are what is judged by",
	"openapi.Seed": "of faults", "openapi.NoLog": "a log", "openapi.Observe": "a hook",
	"aliyun.Region": "of every test", "aliyun.Credential": "of every test", "aliyun.Endpoints": "with openapi.RequireTLS", "aliyun.Transport": "of every test", "aliyun.UserAgent": "a text",
}

// onOff are the names of a configuration's switches that are on or off.
func onOff(cfg any) (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeOf(cfg)) {
		if f.Type.Kind() == reflect.Bool && f.Name != "NoLog" {
			names = append(names, f.Name)
		}
	}
	return names
}

func turnOn(cfg any, name string) { reflect.ValueOf(cfg).Elem().FieldByName(name).SetBool(true) }

func TestWire_EverySwitchHasItsPositions(t *testing.T) {
	known := map[string]bool{}
	for _, p := range positions() {
		known[p.of] = true
	}
	fields := map[string]bool{}
	for prefix, cfg := range map[string]any{"fake.": fake.Config{}, "openapi.": openapi.Config{}, "aliyun.": aliyun.Config{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(cfg)) {
			name := prefix + f.Name
			fields[name] = true
			if known[name] == (noSwitches[name] != "") {
				t.Errorf("%s must have positions or be listed as no switch", name)
			}
		}
	}
	for name := range noSwitches {
		if !fields[name] {
			t.Errorf("%s is listed and does not exist", name)
		}
	}
}

// lineWith returns a line with the switches in some positions, to a cloud that cloud makes.
func lineWith(t testing.TB, cfg fake.Config, cloud func(fake.Config) *fake.Cloud, at ...position) *line {
	wire := openapi.Config{RequireTLS: true}
	var own []func(*aliyun.Config)
	for _, p := range at {
		if p.cloud != nil {
			p.cloud(&cfg)
		}
		if p.wire != nil {
			p.wire(&wire)
		}
		if p.own != nil {
			own = append(own, p.own)
		}
	}
	l := wireTo(t, cloud(cfg), wire)
	l.change = own
	return l
}
