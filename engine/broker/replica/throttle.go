package replica

import (
	"math"
	"sync"
	"time"
)

// Throttle keeps the copying of replicas that are not in sync below a rate (KIP-73): leader.replication.throttled.rate on the
// box that is asked, follower.replication.throttled.rate on the one that asks. It is a bucket that holds one second's bytes
// and may be overdrawn by one answer, which is waited for afterwards. The zero value is full.
type Throttle struct {
	mu    sync.Mutex // protects what follows; a leaf: nothing is called while it is held
	spent float64    // bytes that the rate has not made up for yet
	at    time.Duration
}

// Unthrottled is the rate that bounds nothing, Kafka's default.
const Unthrottled = math.MaxInt64

// Left is how many bytes may be copied now, at that rate in bytes a second; 0 or less: none.
func (t *Throttle) Left(now time.Duration, rate int64) int {
	if rate == Unthrottled {
		return math.MaxInt
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pay(now, rate)
	return int(min(float64(rate)-t.spent, math.MaxInt32))
}

// Took notes that bytes were copied.
func (t *Throttle) Took(now time.Duration, rate int64, bytes int) {
	if rate == Unthrottled || bytes == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pay(now, rate)
	t.spent += float64(bytes)
}

// pay makes up for what was spent since the last time.
func (t *Throttle) pay(now time.Duration, rate int64) {
	if now > t.at {
		t.spent = max(t.spent-float64(rate)*(now-t.at).Seconds(), 0)
	}
	t.at = max(t.at, now)
}
