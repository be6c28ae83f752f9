package main

import (
	"strings"
	"testing"
	"time"
)

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		r    row
		want string
	}{
		{row{value: 3}, "-"},
		{row{value: 3, target: 3, promise: atMost, unit: "s"}, "met (≤ 3.000 s)"},
		{row{value: 3.1, target: 3, promise: atMost, unit: "s"}, "**MISSED** (≤ 3.000 s)"},
		{row{value: 2, target: 3, promise: atLeast, unit: "x"}, "**MISSED** (≥ 3.000 x)"},
		{row{value: 2, target: 1, promise: exactly, unit: "x"}, "**MISSED** (= 1.000 x)"},
		{row{value: 1, target: 1, promise: exactly, unit: "x"}, "met (= 1.000 x)"},
	} {
		if got := c.r.verdict(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
	var out strings.Builder
	if err := printTable(&out, []string{"a fact"}, []row{{name: "a row", value: 2, unit: "s"}}); err != nil || !strings.Contains(out.String(), "| a row | 2.000 | s | - |  |\n") {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestSlowestStretch(t *testing.T) {
	begin := time.Now()
	m := &samples{}
	commits := 0.0
	for i := range 80 { // 20 s: a thousand a second, but for three seconds of a hundred
		if i > 40 && i <= 52 {
			commits += 25
		} else {
			commits += 250
		}
		m.all = append(m.all, sampled{begin.Add(time.Duration(i) * sampleTime), commits, float64(i)})
	}
	if got := m.slowest(begin, begin.Add(time.Minute)); got < 99 || got > 101 {
		t.Errorf("the slowest stretch has %v a second", got)
	}
	if got := m.slowest(begin, begin.Add(9*time.Second)); got < 999 || got > 1001 {
		t.Errorf("before the slow seconds: %v a second", got)
	}
	if got := m.heap(begin, begin.Add(10*sampleTime)); got != 10 {
		t.Errorf("the highest heap is %v", got)
	}
}
