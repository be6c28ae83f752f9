package observe

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
)

func written(m *Metrics) string {
	var b bytes.Buffer
	m.Write(&b)
	return b.String()
}

func TestSeriesAreWrittenWithTheirLabels(t *testing.T) {
	m := Discard().Metrics
	m.Counter("requests_total").Inc()
	m.Counter("requests_total", "api", `a"b\c`+"\n").Add(3)
	if again := m.Counter("requests_total"); again != m.Counter("requests_total") {
		t.Error("a series has two counters")
	}
	value := 1.5
	m.Gauge("depth", func() float64 { return value }, "queue", "q")
	m.Gauge("depth", func() float64 { return -1 }, "queue", "q") // ignored
	m.Histogram("seconds", "kind", "k").Observe(0.25)
	text := written(m)
	for _, want := range []string{
		"requests_total 1\n", `requests_total{api="a\"b\\c\n"} 3`, `depth{queue="q"} 1.5`, `seconds_count{kind="k"} 1`, `seconds_sum{kind="k"} 0.25`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	value = 2.5
	m.Remove("requests_total", "api", `a"b\c`+"\n")
	if text := written(m); strings.Contains(text, "api=") || !strings.Contains(text, `depth{queue="q"} 2.5`) {
		t.Error(text)
	}
}

// Boxes in one process share nothing.
func TestObserversAreApart(t *testing.T) {
	a, b := Discard(), Discard()
	a.Metrics.Counter("c_total").Inc()
	if text := written(b.Metrics); text != "" {
		t.Error(text)
	}
}

func TestWithKeepsTheMetrics(t *testing.T) {
	var log bytes.Buffer
	o := New(slog.New(slog.NewTextHandler(&log, nil)))
	with := o.With("box", 7)
	with.Log.Info("hello")
	with.Metrics.Counter("c_total").Inc()
	if !strings.Contains(log.String(), "box=7") || !strings.Contains(written(o.Metrics), "c_total 1") {
		t.Errorf("%s %s", log.String(), written(o.Metrics))
	}
}

func TestWriteProcess(t *testing.T) {
	var b bytes.Buffer
	WriteProcess(&b)
	if !strings.Contains(b.String(), "go_goroutines") {
		t.Error(b.String())
	}
}

func TestOpenFiles(t *testing.T) {
	before, most := OpenFiles()
	f, err := os.Open("observe_test.go")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if open, _ := OpenFiles(); open != before+1 || open > most {
		t.Errorf("%d files open of %d, and %d before one was opened", open, most, before)
	}
}
