package openapi

import (
	"net/http"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// Versions of the two products.
const (
	VersionESS = "2014-08-28"
	VersionECS = "2014-05-26"
)

// Config sets how a [Handler] behaves. The zero Config accepts any access key ID whose secret is "secret".
type Config struct {
	// Secret is the secret of every access key ID. Default "secret".
	Secret string
	// AccessKeys are the IDs that exist; none means all.
	AccessKeys []string
	// Region is where everything is; requests that name another region are refused. Empty accepts every region.
	Region string
	// Skew is by how much a request's time may differ. Default 15 min; negative: not checked.
	Skew time.Duration
	// RequireTLS refuses requests that do not come over HTTPS.
	RequireTLS bool
	// Rates is how many calls of an action a minute takes; more are throttled. An action that is not named has no limit.
	Rates map[string]int
	// Explain adds to the messages of errors what exactly was wrong, and of which instances. The real service does not say.
	Explain bool
	// Seed is for faults that have a Chance.
	Seed uint64
	// NoLog switches off [Handler.Requests], for very many requests.
	NoLog bool
	// Observe is called with each request that has been answered, before the answer is sent. It may be called by several goroutines at once.
	Observe func(Request)

	// What follows are switches for what the real service does not document or documents in two ways.

	// MembersPage is the largest page of DescribeScalingInstances. Default 50; newer pages of the documentation say 100.
	MembersPage int
	// EconomicalDefault makes StopCharging the mode of a stop that names none, as accounts can have it.
	EconomicalDefault bool
	// KeepEncryption makes the new disk of ReplaceSystemDisk encrypted if the old one was and the call does not say. Otherwise it is
	// not encrypted.
	KeepEncryption bool
	// LocksWhileReplacing shows instances as locked (OperationLocks) for as long as their system disks are being replaced.
	LocksWhileReplacing bool
	// ResultDelay is for how long after RunCommand nothing is known of its invocation. Default none.
	ResultDelay time.Duration
	// PendingFor is for how long after RunCommand a script is Pending before it is Running. Default none.
	PendingFor time.Duration
	// StaleAgent is for how long an agent counts as online after its instance has ceased to run. Default none; the documentation
	// says about two minutes.
	StaleAgent time.Duration
}

func (cfg Config) withDefaults() Config {
	if cfg.Secret == "" {
		cfg.Secret = "secret"
	}
	if cfg.Skew == 0 {
		cfg.Skew = 15 * time.Minute
	}
	if cfg.MembersPage <= 0 {
		cfg.MembersPage = 50
	}
	return cfg
}

// A Handler answers ESS and ECS calls from a [fake.Cloud]. All methods are safe for concurrent use. Make one with [New].
type Handler struct {
	cloud *fake.Cloud
	api   fake.API
	cfg   Config

	mu         sync.Mutex // taken with the cloud locked; the cloud is never called with it held
	nonces     map[string]time.Time
	seen       map[uint64]int // requests by content, for request IDs
	faults     []*fault
	draws      map[uint64]int
	windows    map[string]window
	requests   []*Request
	lists      map[string][]string // last list of an action's parameter
	mismatches []string
	suspicions []string
}

var _ http.Handler = (*Handler)(nil)

// New returns a Handler that answers from cloud.
func New(cloud *fake.Cloud, cfg Config) *Handler {
	return &Handler{
		cloud: cloud, api: cloud.API(), cfg: cfg.withDefaults(),
		nonces: make(map[string]time.Time), seen: make(map[uint64]int), draws: make(map[uint64]int),
		windows: make(map[string]window), lists: make(map[string][]string),
	}
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := h.read(r)
	if err == nil {
		err = h.check(r, c)
	}
	if err != nil {
		h.logRefused(c)
		h.finish(w, c, nil, err)
		return
	}
	answer, err := c.action.handle(c)
	h.finish(w, c, answer, err)
}

// check refuses a request before the cloud sees it.
func (h *Handler) check(r *http.Request, c *call) error {
	if err := h.authenticate(r, c); err != nil {
		return err
	}
	if c.action == nil {
		return c.unknownAction()
	}
	if h.cfg.RequireTLS && r.TLS == nil {
		return c.refuse("InvalidProtocol.NeedSsl", 404, "the action accepts HTTPS only")
	}
	if h.cfg.Region != "" && c.common["RegionId"] != "" && c.common["RegionId"] != h.cfg.Region {
		return c.refuse("InvalidRegionId.NotFound", 404, "region %s", c.common["RegionId"])
	}
	h.watchLists(c)
	return c.validate()
}
