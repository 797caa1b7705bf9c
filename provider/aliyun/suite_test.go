package aliyun_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
	"github.com/rollingupgrade/rollingupgrade/provider/providertest"
)

// TestSuite runs the suite for providers with each of the switches for what the service does not document.
func TestSuite(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cloud fake.Config
		wire  openapi.Config
		n     int
		set   func(*aliyun.Config)
		skip  map[string]string
	}{
		{name: "default", n: 25},
		{name: "many", n: 45, cloud: fake.Config{Seed: 7, Jitter: 0.3}, set: unlimited},
		{name: "partial standby", n: 4, cloud: fake.Config{PartialStandby: true}},
		{name: "standby twice, activities", n: 4, cloud: fake.Config{StandbyTwice: true, StandbyActivities: true, ProtectedToStandby: true}},
		{name: "auto start", n: 12, cloud: fake.Config{AutoStartAfterReplace: true}},
		{name: "stop lets scripts run", n: 4, cloud: fake.Config{StopLetsScriptsRun: true}},
		{name: "no command lookup", n: 4, cloud: fake.Config{NoCommandLookup: true}},
		{name: "command lookup trusted", n: 4, set: trusting},
		{name: "silent agents accepted", n: 4, cloud: fake.Config{SilentAgentAccepted: true}},
		{name: "economical stop by default", n: 4, wire: openapi.Config{EconomicalDefault: true}},
		{name: "results show late", n: 4, wire: openapi.Config{ResultDelay: 20 * time.Second, PendingFor: 2 * time.Second}},
		{name: "encryption kept, pages of 100", n: 4, wire: openapi.Config{KeepEncryption: true, MembersPage: 100, RequireTLS: true}},
		{
			name: "no token memory", n: 4, cloud: fake.Config{TokenMemory: -1},
			skip: map[string]string{"script/sent twice at once": "the cloud cannot tell the two apart"},
		},
		{name: "one replacement per call, jitter", n: 6, cloud: fake.Config{Seed: 3, Jitter: 0.3, Tail: 0.2}, set: func(c *aliyun.Config) { c.ReplaceTargets = 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			providertest.Run(t, providertest.Harness{Bubble: true, New: bedOn(tt.cloud, tt.wire, tt.n, tt.set), Skip: tt.skip})
		})
	}
}

// unlimited switches the limiter off, for more calls at once than one account may make.
func unlimited(c *aliyun.Config) { c.Rates = map[string]aliyun.Rate{"*": {PerSecond: -1}} }

// TestSuiteOverSockets needs no bubble.
func TestSuiteOverSockets(t *testing.T) {
	providertest.Run(t, providertest.Harness{New: func() (*providertest.Bed, error) {
		cloud := fake.Instant()
		cloud.Script = scripts
		r, err := newRig(cloud, openapi.Config{}, 4, nil)
		if err != nil {
			return nil, err
		}
		server := httptest.NewServer(r.wire)
		cfg := config(r.wire)
		cfg.Transport, cfg.Endpoints = nil, aliyun.Endpoints{ESS: server.URL, ECS: server.URL}
		cfg.Poll = time.Millisecond
		unlimited(&cfg)
		if r.Provider, err = aliyun.New(cfg); err != nil {
			return nil, err
		}
		b := r.bed()
		b.Interval, b.Long, b.Close = time.Millisecond, 10*time.Millisecond, server.Close
		return b, nil
	}})
}

// trusting relies on finding commands by their name.
func trusting(c *aliyun.Config) { c.FindsCommands = true }
