package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of at most an eighth of their size.
type histogram struct {
	counts [64 * 8]uint64
	total  uint64
}

func (h *histogram) observe(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 1)))]++
	h.total++
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// quantile returns the upper edge of the bucket in which the quantile lies; 0 for an empty histogram.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > rank {
			return time.Duration(edgeOf(i))
		}
	}
	return 0
}

// bucketOf gives the exponent of v in the upper bits and the three bits after its first in the lower.
func bucketOf(v uint64) int {
	if v < 8 {
		return int(v)
	}
	exponent := bits.Len64(v) - 1
	return (exponent-2)*8 + int(v>>(exponent-3)&7)
}

// edgeOf is the largest value of a bucket.
func edgeOf(bucket int) uint64 {
	if bucket < 8 {
		return uint64(bucket)
	}
	exponent := bucket/8 + 2
	return uint64(8+bucket%8+1)<<(exponent-3) - 1
}
