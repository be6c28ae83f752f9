package znode

import (
	"math"
	"testing"
)

func TestDecodeOwner(t *testing.T) {
	for _, c := range []struct {
		owner                int64
		extended, emulate353 bool
		kind                 OwnerKind
		ttl                  int64
	}{
		{0, true, true, OwnerVoid, 0},
		{5, true, true, OwnerSession, 0},
		{math.MinInt64, false, false, OwnerContainer, 0},
		{math.MinInt64, true, true, OwnerContainer, 0},
		{EncodeTTL(1), true, false, OwnerTTL, 1},
		{EncodeTTL(ttlMax), true, true, OwnerTTL, ttlMax},
		{EncodeTTL(1), false, false, OwnerSession, 0},
		{math.MinInt64 + 7, true, false, OwnerSession, 0},
		{math.MinInt64 + 7, true, true, OwnerTTL, 7},
		{EncodeTTL(1) | 1<<40, true, false, OwnerInvalid, 0},
	} {
		if kind, ttl := DecodeOwner(c.owner, c.extended, c.emulate353); kind != c.kind || ttl != c.ttl {
			t.Errorf("%#x (extended %v, 3.5.3 %v): %v %d, want %v %d", uint64(c.owner), c.extended, c.emulate353, kind, ttl, c.kind, c.ttl)
		}
	}
	if EncodeTTL(1) != -0xffffffffffffff {
		t.Errorf("%#x", uint64(EncodeTTL(1)))
	}
}
