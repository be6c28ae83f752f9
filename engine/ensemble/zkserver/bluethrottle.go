package zkserver

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"time"
)

// ConnectionThrottle is a bucket of tokens that pays for sessions: who asks for one, or for one back, while the bucket is
// empty is closed without an answer, and tries another server (ZooKeeper's BlueThrottle, zookeeper.connection_throttle_*).
// Words take no tokens. The zero value is off.
type ConnectionThrottle struct {
	// TokensMax is how many tokens the bucket holds; it begins full. 0 is off.
	TokensMax int
	// FillCount tokens are added in every FillTime, which is counted in whole milliseconds. Neither is less than 1.
	FillTime  time.Duration
	FillCount int
	// FreezeTime is how long the probability of dropping stays as it is, in whole milliseconds; negative: nobody is
	// dropped by chance. When it is over, DropIncrease is added if the bucket is empty, and DropDecrease is taken off if no
	// more than DecreaseRatio of the tokens are missing. Who is dropped by chance is so although there are tokens, so that
	// a herd of clients comes back scattered.
	FreezeTime                 time.Duration
	DropIncrease, DropDecrease float64
	DecreaseRatio              float64
	// CreateWeight and RenewWeight are how many tokens a new session and one that moves here cost; at least 1.
	CreateWeight, RenewWeight int
}

// errNoToken ends a connection that the bucket has nothing for.
var errNoToken = errors.New("too many connections ask for a session")

// blueThrottle is the bucket. It is pure: time and chance are the caller's.
type blueThrottle struct {
	ConnectionThrottle
	tokens         int
	filled, frozen int64 // when that was done last, in milliseconds
	drop           float64
}

func newBlueThrottle(c ConnectionThrottle, now time.Duration) blueThrottle {
	return blueThrottle{ConnectionThrottle: c, tokens: c.TokensMax, filled: now.Milliseconds(), frozen: now.Milliseconds()}
}

// take takes need tokens out of the bucket, or none and says false. Now is monotonic; chance is evenly from [0, 1).
func (b *blueThrottle) take(now time.Duration, need int, chance float64) bool {
	if b.TokensMax == 0 {
		return true
	}
	b.fill(now.Milliseconds())
	if b.FreezeTime >= 0 {
		b.adjust(now.Milliseconds())
		if chance < b.drop {
			return false
		}
	}
	if b.tokens < need {
		return false
	}
	b.tokens -= need
	return true
}

// fill adds what the time since the last filling is worth. The bucket is full after as many fillings as it holds tokens,
// so that no product is beyond 64 bits.
func (b *blueThrottle) fill(now int64) {
	past, every, most := now-b.filled, b.FillTime.Milliseconds(), int64(b.TokensMax)
	if past <= every {
		return
	}
	count := int64(b.FillCount)
	b.tokens = int(min(most, int64(b.tokens)+min(past/every, most)*count+past%every*count/every))
	b.filled = now
}

// adjust changes the probability of dropping when it has stood long enough.
func (b *blueThrottle) adjust(now int64) {
	if now-b.frozen <= b.FreezeTime.Milliseconds() {
		return
	}
	b.frozen = now
	switch {
	case b.tokens == 0 && b.drop < 1:
		b.drop = min(b.drop+b.DropIncrease, 1)
	case float64(b.deficit()) <= math.Round(float64(b.TokensMax)*b.DecreaseRatio) && b.drop > 0:
		b.drop = max(b.drop-b.DropDecrease, 0)
	}
}

// deficit is how many tokens are missing.
func (b *blueThrottle) deficit() int { return b.TokensMax - b.tokens }

// token takes what a new session costs, or one that moves here. False: the connection is to be closed.
func (s *Server) token(renews bool) bool {
	t := &s.cfg.ConnectionThrottle
	if t.TokensMax == 0 {
		return true
	}
	need, chance, now := t.CreateWeight, 1.0, s.deps.Clock.Now().Mono
	if renews {
		need = t.RenewWeight
	}
	if t.FreezeTime >= 0 {
		chance = draw(s.deps.Random)
	}
	s.mu.Lock()
	taken, deficit := s.blue.take(now, need, chance), s.blue.deficit()
	s.mu.Unlock()
	if taken {
		s.stats.tokenDeficit.Add(int64(deficit))
	}
	return taken
}

// dropProbability is the present probability that a connection is dropped by chance.
func (s *Server) dropProbability() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blue.drop
}

// draw is a number from [0, 1), or 1, which drops nobody, when there is no randomness to be had.
func draw(random io.Reader) float64 {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return 1
	}
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}
