package observe

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	m := Discard().Metrics
	s := m.Summary("election_time")
	if got := s.Span(); got != (Span{}) {
		t.Errorf("%+v before the first", got)
	}
	if text := written(m); text != "election_time_sum 0\nelection_time_count 0\n" {
		t.Errorf("%q before the first", text)
	}
	for v := int64(1); v <= 100; v++ {
		s.Add(v)
	}
	if again := m.Summary("election_time"); again != s {
		t.Error("one name has two summaries")
	}
	if got := s.Span(); got != (Span{Totals{100, 5050}, 1, 100}) || got.Average() != 50.5 {
		t.Errorf("%+v, on average %v", got, got.Average())
	}
	want := "election_time{quantile=\"0.5\"} 51\nelection_time{quantile=\"0.95\"} 96\nelection_time{quantile=\"0.99\"} 100\n" +
		"election_time_sum 5050\nelection_time_count 100\n"
	if text := written(m); text != want {
		t.Errorf("%s, want\n%s", text, want)
	}
	s.Reset()
	s.Add(-7)
	if got := s.Span(); got != (Span{Totals{1, -7}, -7, -7}) {
		t.Errorf("%+v after a reset", got)
	}
	if text := written(m); !strings.Contains(text, "_sum 5043\n") || !strings.Contains(text, "_count 101\n") {
		t.Errorf("a reset takes from what Prometheus has read: %s", text)
	}
}

// The quantiles are of what was seen last.
func TestSummaryForgets(t *testing.T) {
	m := Discard().Metrics
	s := m.Summary("fsynctime")
	for range recentMax {
		s.Add(1)
	}
	for range recentMax {
		s.Add(1 << 40)
	}
	if text := written(m); !strings.Contains(text, "fsynctime{quantile=\"0.5\"} 2147483647\n") {
		t.Error(text)
	}
}

func TestSummaryAllocatesNothing(t *testing.T) {
	s := Discard().Metrics.Summary("readlatency")
	if n := testing.AllocsPerRun(1000, func() { s.Add(3) }); n != 0 {
		t.Errorf("%v allocations for each", n)
	}
}
