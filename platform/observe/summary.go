package observe

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
)

// recentMax is over how many of the last observations quantiles are shown.
const recentMax = 512

// Summary counts observations of whole numbers, such as milliseconds, and shows them as ZooKeeper's summaries are shown:
// sum, count and quantiles in Prometheus's text, least and greatest in its four-letter words. The library's own summary
// needs a goroutine and does not tell its values; this one has neither clock nor goroutine, so its quantiles are over
// the last observations and not over the last minutes. All methods may be called from any goroutine; none allocates but Write's.
type Summary struct {
	mu       sync.Mutex // protects what follows; nothing is called while it is held
	total    Totals
	began    Totals // what was counted before the last Reset
	min, max int64  // since then
	recent   [recentMax]int32
}

// Totals are how many observations there were, and their sum.
type Totals struct{ Count, Sum int64 }

// Span is what a summary has counted since its last Reset. Min and Max are 0 when that is nothing.
type Span struct {
	Totals
	Min, Max int64
}

// Average is the mean; 0 when nothing was counted.
func (s Span) Average() float64 {
	if s.Count == 0 {
		return 0
	}
	return float64(s.Sum) / float64(s.Count)
}

// Add counts one observation.
func (s *Summary) Add(v int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total.Count == s.began.Count || v < s.min {
		s.min = v
	}
	if s.total.Count == s.began.Count || v > s.max {
		s.max = v
	}
	s.recent[s.total.Count%recentMax] = int32(min(max(v, math.MinInt32), math.MaxInt32))
	s.total.Count++
	s.total.Sum += v
}

// Span tells what was counted since the last Reset.
func (s *Summary) Span() Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := Totals{s.total.Count - s.began.Count, s.total.Sum - s.began.Sum}
	if n.Count == 0 {
		return Span{}
	}
	return Span{n, s.min, s.max}
}

// Reset lets Span begin anew. What Prometheus reads goes on: its counts may only grow.
func (s *Summary) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = s.total
}

// quantiles that are shown, as ZooKeeper's provider for Prometheus shows them.
var quantiles = []float64{0.5, 0.95, 0.99}

// write writes the series in Prometheus's text format.
func (s *Summary) write(w io.Writer, name string) {
	s.mu.Lock()
	total, recent := s.total, s.recent
	s.mu.Unlock()
	last := recent[:min(total.Count, recentMax)]
	slices.Sort(last)
	for _, q := range quantiles {
		if n := len(last); n > 0 {
			_, _ = fmt.Fprintf(w, "%s{quantile=\"%g\"} %d\n", name, q, last[min(int(q*float64(n)), n-1)])
		}
	}
	_, _ = fmt.Fprintf(w, "%s_sum %d\n%s_count %d\n", name, total.Sum, name, total.Count)
}
