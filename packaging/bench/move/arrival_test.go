package main

import (
	"testing"
	"time"
)

func TestArrival(t *testing.T) {
	a := &arrival{}
	at, bytes := time.Now(), int64(0)
	add := func(samples int, each int64) {
		for range samples {
			a.all = append(a.all, arrived{at, bytes})
			at, bytes = at.Add(sampleTime), bytes+each
		}
	}
	add(100, 0)  // nothing for 5 s
	add(200, 50) // 1000 a second for 10 s
	add(100, 75) // 1500 a second for 5 s
	add(200, 50)
	add(100, 0)
	if got := a.highest(5 * time.Second); got < 1499 || got > 1501 {
		t.Errorf("the highest rate over 5 s is %v", got)
	}
	if got := a.highest(10 * time.Second); got < 1249 || got > 1251 {
		t.Errorf("the highest rate over 10 s is %v", got)
	}
	if got := a.mean(); got < 1099 || got > 1101 || a.took() != 25*time.Second {
		t.Errorf("the mean is %v in %v", got, a.took())
	}
	if got := a.highest(time.Hour); got != a.mean() {
		t.Errorf("over more than there is: %v", got)
	}
}
