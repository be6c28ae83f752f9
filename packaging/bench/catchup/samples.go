package main

import (
	"time"

	"cairn/packaging/bench/fleet"
)

// Series of cairn's /metrics that are sampled.
const (
	commitSeries = "commit_count"
	heapSeries   = "go_memstats_heap_inuse_bytes"
)

// sampleTime is the time between two samples.
const sampleTime = 250 * time.Millisecond

// samples are what a server's metrics said over time. One goroutine takes them until end; then they may be read.
type samples struct {
	begun  time.Time
	all    []sampled
	failed error
	stop   chan struct{}
	over   chan struct{}
}

type sampled struct {
	at      time.Time
	commits float64
	heap    float64 // bytes
}

// sample begins to take samples.
func sample(s *fleet.Server) *samples {
	m := &samples{begun: time.Now(), stop: make(chan struct{}), over: make(chan struct{})}
	go func() {
		defer close(m.over)
		ticker := time.NewTicker(sampleTime)
		defer ticker.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-ticker.C:
			}
			got, err := s.Metrics(commitSeries, heapSeries)
			if err != nil {
				m.failed = err
				return
			}
			m.all = append(m.all, sampled{time.Now(), got[commitSeries], got[heapSeries]})
		}
	}()
	return m
}

// end takes no more.
func (m *samples) end() {
	close(m.stop)
	<-m.over
}

// heap is the highest between two times.
func (m *samples) heap(from, to time.Time) (highest float64) {
	for _, s := range m.all {
		if !s.at.Before(from) && !s.at.After(to) {
			highest = max(highest, s.heap)
		}
	}
	return highest
}

// slowestOver is the stretch that the slowest rate is of.
const slowestOver = 2 * time.Second

// slowest is the lowest rate of commits over any stretch between two times, in a second.
func (m *samples) slowest(from, to time.Time) float64 {
	lowest := -1.0
	first := 0
	for i, s := range m.all {
		if s.at.Before(from) || s.at.After(to) {
			first = i + 1
			continue
		}
		for first < i && s.at.Sub(m.all[first+1].at) >= slowestOver {
			first++
		}
		if took := s.at.Sub(m.all[first].at); took >= slowestOver {
			rate := (s.commits - m.all[first].commits) / took.Seconds()
			if lowest < 0 || rate < lowest {
				lowest = rate
			}
		}
	}
	return max(lowest, 0)
}
