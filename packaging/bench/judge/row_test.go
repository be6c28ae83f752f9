package main

import (
	"errors"
	"strings"
	"testing"

	"cairn/packaging/bench/measure"
)

func TestVerdicts(t *testing.T) {
	fast := row{cairn: measure.Figures{70, 60, 80}, floor: measure.Figures{100, 100, 100}}
	for _, c := range []struct {
		r    row
		want string
	}{
		{fast.ratio(0.6, true), "met"},
		{fast.ratio(0.7, true), "met"},
		{fast.ratio(0.71, true), "**MISSED** (0.700, target ratio ≥ 0.710)"},
		{fast.ratio(0.7, false), "met"},
		{fast.ratio(0.69, false), "**MISSED** (0.700, target ratio ≤ 0.690)"},
		{fast.absolute(70), "met"},
		{fast, "-"},
	} {
		if got := c.r.verdict(); got != c.want {
			t.Errorf("verdict %q, want %q", got, c.want)
		}
	}
}

func TestTableHasALineForEveryRow(t *testing.T) {
	var out strings.Builder
	rows := []row{{name: "a", unit: "ms", cairn: measure.Figures{2, 4}, floor: measure.Figures{1, 1}, durable: "-", note: "why"}, {name: "b", failed: errors.New("x|y\nz")}}
	printTable(&out, []string{"fact"}, rows)
	for _, want := range []string{"- fact\n", "| a | 3.000 (2.000–4.000) | 1.000 (1.000–1.000) | ms | 3.000 (2.000–4.000) | - | - | - |", "| b | FAILED: x/y z |", "- a: why\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestTracesAreCounted(t *testing.T) {
	const text = `12 fdatasync(5) = 0
13 fdatasync(6 <unfinished ...>
12 sendfile(7, 5, [0], 100) = 40
13 <... fdatasync resumed>) = 0
12 sendfile(7, 5, [40], 60 <unfinished ...>
14 fsync(3) = 0
12 <... sendfile resumed>) = 60
12 sendfile(7, 5, [40], 60) = -1 EAGAIN (Resource temporarily unavailable)
`
	if n := len(flushCall.FindAllString(text, -1)); n != 3 {
		t.Errorf("%d flushes, want 3", n)
	}
	sent := sendfileCall.FindAllStringSubmatch(text, -1)
	if len(sent) != 2 || sent[0][1] != "40" || sent[1][1] != "60" {
		t.Errorf("sendfile %v, want 40 and 60", sent)
	}
}
