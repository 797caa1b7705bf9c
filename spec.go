package rollingupgrade

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Limits on what a Spec may hold.
const (
	// MaxDescription is the limit of a description, in bytes.
	MaxDescription = 4096
	// MaxScript is the limit of a script, in bytes after base64 encoding (ECS RunCommand, CommandContent: 24 KB for Linux and Windows).
	MaxScript = 24 << 10
	// maxText bounds IDs and other short texts.
	maxText = 256
	// maxDuration bounds every duration of a spec.
	maxDuration = 366 * 24 * time.Hour
	// maxCount bounds every number of a spec, far above any scaling group.
	maxCount = 1_000_000
)

// Update says what is done to each instance; see [provider.Update].
type Update = provider.Update

// Image returns the update that replaces the system disk by an image.
func Image(imageID string) Update {
	return Update{Kind: provider.ImageUpdate, Image: &provider.ImageSpec{ImageID: imageID}}
}

// Script returns the update that runs a script through Cloud Assistant.
// Timeout, working directory, user and parameters are fields of Update.Script.
func Script(t provider.ScriptType, content string) Update {
	return Update{Kind: provider.ScriptUpdate, Script: &provider.ScriptSpec{Type: t, Content: content}}
}

// Spec says what a task shall do. It is data: all of it survives JSON and the death of the process.
// GroupID, Update and Batches must be set.
type Spec struct {
	// GroupID is the scaling group.
	GroupID string `json:"group_id"`
	// Description is free text for later tracing, at most MaxDescription bytes.
	Description string `json:"description,omitempty"`
	// Update is what is done to each instance.
	Update Update `json:"update"`
	// Rollback is the default update of a later rollback, of the same kind. It may be empty; then it must be named at the rollback.
	Rollback Update `json:"rollback,omitzero"`
	// Batches says how the instances are divided.
	Batches BatchSpec `json:"batches"`
	// Pause says where the task waits for Continue; zero means nowhere.
	Pause PausePolicy `json:"pause,omitzero"`
	// Failure says what failed instances mean; zero means that each waits for a decision.
	Failure FailurePolicy `json:"failure,omitzero"`
	// Targets narrows or widens the instances; zero means all that are InService.
	Targets TargetSpec `json:"targets,omitzero"`
	// MinInService is how many instances must stay in service; zero means one. -1 allows
	// that a batch takes out everything.
	MinInService int `json:"min_in_service,omitempty"`
	// MaxInFlight is how many instances of a batch are at work at once; zero means the whole batch.
	MaxInFlight int `json:"max_in_flight,omitempty"`
	// Drain is how long an instance rests in Standby before it is updated, so that requests
	// in flight come to an end (EnterStandby does not wait for them); zero means not at all.
	Drain time.Duration `json:"drain,omitempty"`
	// Verify says how the Verify hook is used.
	Verify VerifyPolicy `json:"verify,omitzero"`
	// Configuration says when an image update also sets the image of the group's active scaling configuration.
	Configuration ConfigurationPolicy `json:"configuration,omitempty"`
	// Consent allows what is refused without it.
	Consent Consent `json:"consent,omitzero"`
	// Timeouts bound every wait.
	Timeouts Timeouts `json:"timeouts,omitzero"`

	// ClientToken makes Create repeatable: with the same token and the same spec it returns the
	// same task. At most 256 bytes. Empty means that every Create makes a task.
	ClientToken string `json:"client_token,omitempty"`
	// PlanHash, if set, is the hash of a [Plan] that the operator has seen. If Create, or later the final list
	// of members, comes to another plan, no instance is touched.
	PlanHash string `json:"plan_hash,omitempty"`
}

// TargetSpec selects instances. Only instances that are InService are targets.
type TargetSpec struct {
	// Include, if not empty, names the only instances to work on; Exclude names instances to leave alone.
	Include []string `json:"include,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
	// IncludeProtected also works on Protected instances: protection is lifted before Standby and set again after.
	IncludeProtected bool `json:"include_protected,omitempty"`
	// SkipUpToDate does nothing to instances that already run the wished image; they count as succeeded.
	SkipUpToDate bool `json:"skip_up_to_date,omitempty"`
}

// ConfigurationPolicy says when the image of the group's active scaling configuration is set. A launch template is never changed.
type ConfigurationPolicy string

// The policies. The zero ConfigurationPolicy is ConfigurationAfterSuccess.
const (
	ConfigurationAfterSuccess    ConfigurationPolicy = "after_success"
	ConfigurationAfterFirstBatch ConfigurationPolicy = "after_first_batch"
	ConfigurationNever           ConfigurationPolicy = "never"
)

// Consent allows what a precheck otherwise refuses.
type Consent struct {
	// LoginLoss allows an image update after which nobody can log in to some instance.
	LoginLoss bool `json:"login_loss,omitempty"`
	// DataDiskLoss allows that the configuration's data disks, which came with its old image, are dropped with it.
	DataDiskLoss bool `json:"data_disk_loss,omitempty"`
}

func (s *Spec) minInService() int {
	switch s.MinInService {
	case 0:
		return 1
	case -1:
		return 0
	}
	return s.MinInService
}

func (s *Spec) configuration() ConfigurationPolicy {
	return or(s.Configuration, ConfigurationAfterSuccess)
}

func (s *Spec) updateTimeout() time.Duration {
	switch {
	case s.Timeouts.Update > 0:
		return s.Timeouts.Update
	case s.Update.Script != nil:
		return or(s.Update.Script.Timeout, time.Minute) + 10*time.Minute
	}
	return time.Hour
}

// hash names what the spec asks for, its client token aside.
func (s Spec) hash() string {
	s.ClientToken = ""
	if len(s.Targets.Include) == 0 {
		s.Targets.Include = nil // an empty list asks for the same as none
	}
	if len(s.Targets.Exclude) == 0 {
		s.Targets.Exclude = nil
	}
	return hashOf(s)
}

// hashOf returns a short name of v's JSON. Everything hashed is plain data that always encodes.
func hashOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("rollingupgrade: plain data does not encode: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// Validate reports every problem of the spec that can be seen without the cloud, joined; each
// is a *[FieldError] (ErrInvalid). Own kinds of update are checked by New's Config, not here.
func (s *Spec) Validate() error {
	c := &checker{}
	c.id("Spec.GroupID", s.GroupID)
	c.text("Spec.Description", s.Description, MaxDescription)
	c.text("Spec.ClientToken", s.ClientToken, maxText)
	c.text("Spec.PlanHash", s.PlanHash, maxText)
	c.update("Spec.Update", s.Update)
	if s.Rollback.Kind != "" || s.Rollback.Image != nil || s.Rollback.Script != nil || s.Rollback.Params != nil {
		c.update("Spec.Rollback", s.Rollback)
		c.counterpart("Spec.Rollback", s.Update, s.Rollback)
	}
	c.add(s.Batches.validate("Spec.Batches"))
	c.count("Spec.Batches.MaxSize", s.Batches.MaxSize, 0)
	c.pause("Spec.Pause", s.Pause)
	c.failure("Spec.Failure", s.Failure)
	c.targets("Spec.Targets", s.Targets)
	c.count("Spec.MinInService", s.MinInService, -1)
	c.count("Spec.MaxInFlight", s.MaxInFlight, 0)
	c.count("Spec.Verify.Successes", s.Verify.Successes, 0)
	switch s.configuration() {
	case ConfigurationAfterSuccess, ConfigurationAfterFirstBatch, ConfigurationNever:
	default:
		c.field("Spec.Configuration", fmt.Sprintf("unknown policy %q", clip(string(s.Configuration))))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"Spec.Drain", s.Drain},
		{"Spec.Verify.Timeout", s.Verify.Timeout},
		{"Spec.Verify.Interval", s.Verify.Interval},
		{"Spec.Timeouts.Settle", s.Timeouts.Settle},
		{"Spec.Timeouts.Group", s.Timeouts.Group},
		{"Spec.Timeouts.EnterStandby", s.Timeouts.EnterStandby},
		{"Spec.Timeouts.ExitStandby", s.Timeouts.ExitStandby},
		{"Spec.Timeouts.Update", s.Timeouts.Update},
		{"Spec.Timeouts.Instance", s.Timeouts.Instance},
		{"Spec.Timeouts.Batch", s.Timeouts.Batch},
		{"Spec.Timeouts.Task", s.Timeouts.Task},
	} {
		c.duration(d.name, d.d)
	}
	return errors.Join(c.errs...)
}

// checker collects what is wrong with fields.
type checker struct{ errs []error }

func (c *checker) field(name, problem string) { c.add(&FieldError{name, problem}) }

func (c *checker) add(err error) {
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

func (c *checker) text(name, s string, limit int) {
	switch {
	case len(s) > limit:
		c.field(name, fmt.Sprintf("%d bytes; at most %d", len(s), limit))
	case !utf8.ValidString(s):
		c.field(name, "is not valid UTF-8")
	case strings.ContainsRune(s, 0):
		c.field(name, "holds a NUL character")
	}
}

func (c *checker) id(name, s string) {
	switch {
	case s == "":
		c.field(name, "must be set")
	case s != strings.TrimSpace(s):
		c.field(name, "has white space around it")
	default:
		c.text(name, s, maxText)
	}
}

func (c *checker) count(name string, n, least int) {
	if n < least || n > maxCount {
		c.field(name, fmt.Sprintf("%d; must be from %d to %d", n, least, maxCount))
	}
}

func (c *checker) duration(name string, d time.Duration) {
	if d < 0 || d > maxDuration {
		c.field(name, fmt.Sprintf("%s; must be from 0 to %s", d, maxDuration))
	}
}

func (c *checker) update(name string, u Update) {
	c.id(name+".Kind", string(u.Kind))
	if u.Image != nil && u.Kind != provider.ImageUpdate {
		c.field(name+".Image", fmt.Sprintf("is set, but the kind is %q", clip(string(u.Kind))))
	}
	if u.Script != nil && u.Kind != provider.ScriptUpdate {
		c.field(name+".Script", fmt.Sprintf("is set, but the kind is %q", clip(string(u.Kind))))
	}
	switch u.Kind {
	case provider.ImageUpdate:
		if u.Image == nil {
			c.field(name+".Image", "must be set")
			return
		}
		c.id(name+".Image.ImageID", u.Image.ImageID)
	case provider.ScriptUpdate:
		if u.Script == nil {
			c.field(name+".Script", "must be set")
			return
		}
		c.script(name+".Script", u.Script)
	}
	if len(u.Params) > 0 && !json.Valid(u.Params) {
		c.field(name+".Params", "is not valid JSON")
	}
	if len(u.Params) > 64<<10 {
		c.field(name+".Params", fmt.Sprintf("%d bytes; at most %d", len(u.Params), 64<<10))
	}
}

func (c *checker) script(name string, s *provider.ScriptSpec) {
	switch s.Type {
	case provider.Shell, provider.Bat, provider.PowerShell:
	default:
		c.field(name+".Type", fmt.Sprintf("unknown type %q; must be %s, %s or %s", clip(string(s.Type)), provider.Shell, provider.Bat, provider.PowerShell))
	}
	if strings.TrimSpace(s.Content) == "" {
		c.field(name+".Content", "is empty")
	} else if n := base64.StdEncoding.EncodedLen(len(s.Content)); n > MaxScript {
		c.field(name+".Content", fmt.Sprintf("%d bytes in base64; at most %d", n, MaxScript))
	} else {
		c.text(name+".Content", s.Content, MaxScript)
	}
	c.text(name+".WorkingDir", s.WorkingDir, 200)
	c.text(name+".User", s.User, 255)
	if s.Timeout != 0 && s.Timeout < 10*time.Second || s.Timeout > 24*time.Hour {
		c.field(name+".Timeout", fmt.Sprintf("%s; must be from 10s to 24h", s.Timeout))
	}
	if len(s.Parameters) > 10 {
		c.field(name+".Parameters", fmt.Sprintf("%d parameters; at most 10", len(s.Parameters)))
	}
	for k, v := range s.Parameters {
		c.id(name+".Parameters", k)
		c.text(name+".Parameters", v, MaxScript)
	}
}

// counterpart checks that a rollback is of the same kind as its update.
func (c *checker) counterpart(name string, u, r Update) {
	switch {
	case u.Kind != r.Kind:
		c.field(name+".Kind", fmt.Sprintf("%q; must be the same kind as the update, %q", clip(string(r.Kind)), clip(string(u.Kind))))
	case u.Script != nil && r.Script != nil && u.Script.Type != r.Script.Type:
		c.field(name+".Script.Type", fmt.Sprintf("%q; must be the same type as the update's, %q", clip(string(r.Script.Type)), clip(string(u.Script.Type))))
	}
}

func (c *checker) pause(name string, p PausePolicy) {
	switch p.mode() {
	case PauseNever, PauseFirstBatch, PauseEveryBatch:
	default:
		c.field(name+".Mode", fmt.Sprintf("unknown mode %q", clip(string(p.Mode))))
	}
	c.limit(name, p.Limit, p.OnLimit, OnLimitContinue, OnLimitCancel, OnLimitRollback)
}

func (c *checker) failure(name string, p FailurePolicy) {
	for _, b := range []struct {
		name string
		b    Budget
	}{{name + ".PerBatch", p.PerBatch}, {name + ".Total", p.Total}} {
		c.count(b.name+".Instances", b.b.Instances, 0)
		if b.b.Percent < 0 || b.b.Percent > 100 {
			c.field(b.name+".Percent", fmt.Sprintf("%d; must be from 0 to 100", b.b.Percent))
		}
	}
	c.limit(name, p.Limit, p.OnLimit, OnLimitCancel, OnLimitRollback)
}

func (c *checker) limit(name string, d time.Duration, o PauseOutcome, legal ...PauseOutcome) {
	c.duration(name+".Limit", d)
	if (d == 0) != (o == "") {
		c.field(name+".OnLimit", "Limit and OnLimit must be set together")
		return
	}
	if o == "" {
		return
	}
	for _, l := range legal {
		if l == o {
			return
		}
	}
	c.field(name+".OnLimit", fmt.Sprintf("%q; must be one of %v", clip(string(o)), legal))
}

func (c *checker) targets(name string, t TargetSpec) {
	excluded := make(map[string]bool, len(t.Exclude))
	for i, id := range t.Exclude {
		c.id(fmt.Sprintf("%s.Exclude[%d]", name, i), id)
		excluded[id] = true
	}
	seen := make(map[string]bool, len(t.Include))
	for i, id := range t.Include {
		at := fmt.Sprintf("%s.Include[%d]", name, i)
		c.id(at, id)
		if excluded[id] {
			c.field(at, fmt.Sprintf("%s is excluded too", clip(id)))
		}
		if seen[id] {
			c.field(at, fmt.Sprintf("%s is named twice", clip(id)))
		}
		seen[id] = true
	}
}

// clip shortens what a user passed, for an error text.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}
