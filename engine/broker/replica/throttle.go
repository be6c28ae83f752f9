package replica

import (
	"math"
	"sync"
	"time"
)

// Throttle keeps the copying of replicas that are not in sync below a rate (KIP-73): leader.replication.throttled.rate on the
// box that is asked, follower.replication.throttled.rate on the one that asks. It is a bucket that may be overdrawn by one answer,
// which is waited for afterwards. Kafka measures over eleven seconds and lets through what it has counted too late; here the
// bucket is small, so that no second gets much more than its part: a burst at the beginning of a move is what clients feel.
// The zero value is full.
type Throttle struct {
	mu    sync.Mutex // protects what follows; a leaf: nothing is called while it is held
	spent float64    // bytes that the rate has not made up for yet
	at    time.Duration
}

// Unthrottled is the rate that bounds nothing, Kafka's default.
const Unthrottled = math.MaxInt64

const (
	// throttleSaves is how much time's bytes the bucket holds: who comes so much later than it could loses nothing of the rate.
	throttleSaves = 50 * time.Millisecond
	// throttlePart of the rate is paid: with what the bucket holds, and an answer, five seconds get no more than the rate.
	throttlePart = 0.98
	// throttleShare is how much time's bytes there must be before something is let through: crumbs cost as much as answers.
	throttleShare = 20 * time.Millisecond
	// throttleWaitMax bounds what Left has somebody wait: the rate may have changed.
	throttleWaitMax = 200 * time.Millisecond
)

// Left is how many bytes may be copied now, at that rate in bytes a second. With 0 bytes it says after what time to ask again.
func (t *Throttle) Left(now time.Duration, rate int64) (bytes int, wait time.Duration) {
	switch {
	case rate == Unthrottled:
		return math.MaxInt, 0
	case rate <= 0:
		return 0, throttleWaitMax
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pay(now, rate)
	left, share := max(float64(rate)*throttleSaves.Seconds(), 1)-t.spent, max(float64(rate)*throttleShare.Seconds(), 1)
	if left >= share {
		return int(min(left, math.MaxInt32)), 0
	}
	return 0, min(time.Duration((share-left)/(throttlePart*float64(rate))*float64(time.Second))+time.Millisecond, throttleWaitMax)
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
		t.spent = max(t.spent-throttlePart*float64(rate)*(now-t.at).Seconds(), 0)
	}
	t.at = max(t.at, now)
}
