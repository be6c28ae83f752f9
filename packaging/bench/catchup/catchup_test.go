package main

import (
	"testing"
	"time"
)

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
