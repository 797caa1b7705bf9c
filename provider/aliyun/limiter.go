package aliyun

import (
	"strings"
	"sync"
	"time"
)

// A Rate is how often an action may be called: PerSecond on the average, Burst at once, and in no minute more than PerSecond makes in one,
// since the service counts by the minute: a Burst of a whole minute's calls is safe, and followed by a minute without any. A Burst of more is
// what a minute may have. Only a list that was begun is read to its end whatever the Rate; later calls wait for it. A negative PerSecond means
// without limit. Burst zero means one second's worth.
type Rate struct {
	PerSecond float64
	Burst     int
}

// defaultRates are what calls are held to where [Config.Rates] says nothing. The documentation gives 2000 calls in 60 s for
// EnterStandby, DescribeScalingInstances and DescribeScalingConfigurations, per account and region; all other figures are
// unverified (they are in the Quota Center of the account) and chosen low.
var defaultRates = map[string]Rate{
	"DescribeScalingInstances":      {PerSecond: 25, Burst: 400},
	"DescribeScalingConfigurations": {PerSecond: 25, Burst: 100},
	"EnterStandby":                  {PerSecond: 25, Burst: 100},
	"ReplaceSystemDisk":             {PerSecond: 5, Burst: 50},
	"RunCommand":                    {PerSecond: 5, Burst: 50},
}

var (
	defaultRead  = Rate{PerSecond: 10, Burst: 200}
	defaultWrite = Rate{PerSecond: 10, Burst: 100}
)

// Bounds of what throttling does to a rate.
const (
	leastWait  = time.Second      // after a call was throttled; also how long the rate stays before it is halved again
	mostWait   = time.Minute      // the service counts by the minute
	window     = 61 * time.Second // a minute, and calls do not all take the same time to arrive
	grain      = window / 120     // calls of so long a time count as one
	leastRate  = 1.0              // calls a second
	tiny       = 1e-6             // of a call, lost in rounding
	raiseParts = 20               // in so many steps, a second each, a rate is back where it was
)

// A limiter holds calls to rates, per action. It never sleeps.
type limiter struct {
	rates map[string]Rate
	share float64

	mu      sync.Mutex
	buckets map[string]*bucket
}

// A bucket is the state of one action.
type bucket struct {
	full, rate float64 // calls a second: at most, and now
	burst      float64
	tokens     float64
	at         time.Time // when tokens was right
	until      time.Time // no call before
	changed    time.Time // when rate was
	sent       []sent    // of the last window, the oldest first
	count      int       // their calls
	promised   time.Time // pace: when the first of those who wait gets a part, even if others have been served meanwhile who needed less
}

// sent are calls that went out together.
type sent struct {
	since, last time.Time
	n           int
}

func newLimiter(rates map[string]Rate, share float64) *limiter {
	if share <= 0 {
		share = 1
	}
	return &limiter{rates: rates, share: share, buckets: make(map[string]*bucket)}
}

func (l *limiter) rateOf(action string) Rate {
	if r, ok := l.rates[action]; ok {
		return r
	}
	if r, ok := l.rates["*"]; ok {
		return r
	}
	if r, ok := defaultRates[action]; ok {
		return r
	}
	if strings.HasPrefix(action, "Describe") {
		return defaultRead
	}
	return defaultWrite
}

// bucket returns the action's bucket, filled up to now; nil if there is no limit. l.mu is held.
func (l *limiter) bucket(action string, now time.Time) *bucket {
	return l.bucketAs(action, action, now)
}

// bucketAs is bucket under another name.
func (l *limiter) bucketAs(name, action string, now time.Time) *bucket {
	b := l.buckets[name]
	if b == nil {
		r := l.rateOf(action)
		b = &bucket{full: r.PerSecond * l.share, burst: max(1, float64(r.Burst)*l.share), at: now, changed: now}
		if r.Burst == 0 {
			b.burst = max(1, b.full)
		}
		b.rate, b.tokens = b.full, b.burst
		l.buckets[name] = b
	}
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens = min(b.burst, b.tokens+d*max(b.rate, 0))
		b.at = now
	}
	for len(b.sent) > 0 && now.Sub(b.sent[0].last) >= window {
		b.count -= b.sent[0].n
		b.sent = b.sent[1:]
	}
	return b
}

// spend notes that n calls go out.
func (b *bucket) spend(n int, now time.Time) {
	b.tokens -= float64(n)
	b.count += n
	if last := len(b.sent) - 1; last >= 0 && now.Sub(b.sent[last].since) < grain {
		b.sent[last].n += n
		b.sent[last].last = now
		return
	}
	b.sent = append(b.sent, sent{now, now, n})
}

// wait is how long n calls have to wait. More than a burst wait for a whole one, and more than a minute's calls until all before them have
// left the window.
func (b *bucket) wait(n int) (d time.Duration) {
	if need := min(float64(n), b.burst); b.tokens+tiny < need {
		d = max(time.Millisecond, time.Duration((need-b.tokens)/b.rate*float64(time.Second)))
	}
	most := max(b.burst, b.rate*time.Minute.Seconds())
	over := float64(b.count) + min(float64(n), most) - most
	for k := 0; k < len(b.sent) && over > tiny; k++ {
		over -= float64(b.sent[k].n)
		d = max(d, b.sent[k].last.Add(window).Sub(b.at))
	}
	return d
}

// take asks for n calls of an action at once. If they do not fit it says how long to wait.
func (l *limiter) take(action string, n int) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.bucket(action, now)
	if d := b.until.Sub(now); d > 0 {
		return d, false
	}
	if b.full < 0 {
		return 0, true
	}
	if d := b.wait(n); d > 0 {
		return d, false
	}
	b.spend(n, now)
	return 0, true
}

// pace says how many of n calls of an action that come later may be prepared now: as many as the action's rate lets through in the same time. They
// are granted in parts of the given size, or all that are left; if not all are, it says how long to wait for the next part.
func (l *limiter) pace(action string, n, part int) (now int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := time.Now()
	calls, b := l.bucket(action, at), l.bucketAs("before "+action, action, at)
	if d := calls.until.Sub(at); d > 0 {
		return 0, d
	}
	if b.full < 0 {
		return n, 0
	}
	b.rate = calls.rate // as the service has taught it
	part = min(part, int(b.burst))
	for now < n {
		next := min(part, n-now)
		d, due := b.wait(next), !b.promised.IsZero() && !at.Before(b.promised)
		if d > 0 && !due {
			if b.promised.IsZero() {
				b.promised = at.Add(d)
			}
			return now, d
		}
		if due {
			b.promised = time.Time{}
		}
		b.spend(next, at)
		now += next
	}
	return now, 0
}

// takeMore takes n calls that go on with what an earlier one has begun, such as further pages of a list: later calls pay for what
// does not fit. Otherwise a long list would be begun again and again and never read to its end.
func (l *limiter) takeMore(action string, n int) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.bucket(action, now)
	if d := b.until.Sub(now); d > 0 {
		return d, false
	}
	if b.full > 0 {
		b.spend(n, now)
	}
	return 0, true
}

// throttled takes note that the service has refused a call, and returns how long to wait.
func (l *limiter) throttled(action string, after time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.bucket(action, now)
	after = min(max(after, leastWait), mostWait)
	if until := now.Add(after); until.After(b.until) {
		b.until = until
	}
	if b.full > 0 && (b.rate == b.full || now.Sub(b.changed) >= leastWait) { // calls that went out together count once
		b.rate = min(b.full, max(leastRate*l.share, b.rate/2))
		b.changed = now
	}
	b.tokens = min(b.tokens, 1)
	return b.until.Sub(now)
}

// succeeded takes note that the service has accepted a call.
func (l *limiter) succeeded(action string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.bucket(action, now)
	if b.rate < b.full && now.Sub(b.changed) >= leastWait {
		b.rate = min(b.full, b.rate+b.full/raiseParts)
		b.changed = now
	}
}
