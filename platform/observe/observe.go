// Package observe gives rooms a logger and metrics as values: nothing is global, so that N boxes in one process each
// have their own. It starts no goroutine. It is the only package that knows the metrics library.
package observe

import (
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// Counter only grows. Inc and Add may be called from any goroutine.
type Counter = metrics.Counter

// Histogram counts observations of seconds or bytes. Observe takes a float64.
type Histogram struct{ h *metrics.Histogram }

// Observe adds one observation.
func (h *Histogram) Observe(v float64) { h.h.Update(v) }

// Observer is what a room logs to and counts with.
type Observer struct {
	Log     *slog.Logger
	Metrics *Metrics
}

// New returns an observer with an empty set of metrics.
func New(log *slog.Logger) *Observer {
	return &Observer{Log: log, Metrics: &Metrics{set: metrics.NewSet(), summaries: map[string]*Summary{}}}
}

// Discard returns an observer that nobody reads.
func Discard() *Observer { return New(slog.New(slog.DiscardHandler)) }

// With returns an observer whose log lines carry args; the metrics are the same set.
func (o *Observer) With(args ...any) *Observer {
	return &Observer{Log: o.Log.With(args...), Metrics: o.Metrics}
}

// Metrics is one box's set of metrics. Names follow Prometheus: base units, _total for counters.
type Metrics struct {
	set *metrics.Set

	mu        sync.Mutex // protects the map
	summaries map[string]*Summary
}

// Counter returns the counter of that name and labels (key, value, key, value …), making it at first use.
func (m *Metrics) Counter(name string, labels ...string) *Counter {
	return m.set.GetOrCreateCounter(Series(name, labels...))
}

// Gauge shows what f returns when the metrics are written. A second registration of the same series is ignored.
func (m *Metrics) Gauge(name string, f func() float64, labels ...string) {
	m.set.GetOrCreateGauge(Series(name, labels...), f)
}

// Histogram returns the histogram of that name and labels, making it at first use.
func (m *Metrics) Histogram(name string, labels ...string) *Histogram {
	return &Histogram{m.set.GetOrCreateHistogram(Series(name, labels...))}
}

// Summary returns the summary of that name, making it at first use. It has no labels.
func (m *Metrics) Summary(name string) *Summary {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.summaries[name]
	if s == nil {
		s = &Summary{}
		m.summaries[name] = s
	}
	return s
}

// Remove forgets a series, such as that of a deleted topic.
func (m *Metrics) Remove(name string, labels ...string) {
	m.set.UnregisterMetric(Series(name, labels...))
}

// Write writes all series in Prometheus's text format.
func (m *Metrics) Write(w io.Writer) {
	m.set.WritePrometheus(w)
	m.mu.Lock()
	summaries := maps.Clone(m.summaries)
	m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(summaries)) {
		summaries[name].write(w, name)
	}
}

// WriteProcess writes the process's own series (CPU, memory, descriptors, Go runtime).
func WriteProcess(w io.Writer) { metrics.WriteProcessMetrics(w) }

// Series is a series' name with its labels (key, value, key, value …) in Prometheus's text format.
func Series(name string, labels ...string) string {
	if len(labels) < 2 {
		return name
	}
	var b strings.Builder
	b.WriteString(name)
	b.WriteByte('{')
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labels[i])
		b.WriteString(`="`)
		b.WriteString(escaper.Replace(labels[i+1]))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
