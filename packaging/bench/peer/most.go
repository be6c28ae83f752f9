package main

import (
	"fmt"
	"time"

	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

// series are the figures of one workload: of cairn and of ZooKeeper, one for each round.
type series struct {
	workload workload
	sessions int
	rate     float64 // that was offered; 0: as fast as they answer, one request in flight in each session
	rates    [2]measure.Figures
	p50, p99 [2]measure.Figures // milliseconds
	cpu      [2]measure.Figures // microseconds of all servers for an operation
	disk     [2]measure.Figures // bytes for an operation
}

func (s *series) add(peer int, c costed) {
	s.rates[peer] = append(s.rates[peer], c.PerSecond())
	s.p50[peer] = append(s.p50[peer], milliseconds(c.P50))
	s.p99[peer] = append(s.p99[peer], milliseconds(c.P99))
	s.cpu[peer] = append(s.cpu[peer], c.perOperation(c.Requests))
	s.disk[peer] = append(s.disk[peer], float64(c.written)/float64(c.Requests))
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// fans are the figures of the watch fan-out.
type fans struct {
	watchers       int
	events         [2]measure.Figures // a second
	last, eventP99 [2]measure.Figures // milliseconds
	cpu            [2]measure.Figures // microseconds of all servers for an event and the watch that is set again
	rounds         int
	lastMax        [2]measure.Figures
}

// sessionCounts are how many sessions there are, one request in flight in each.
func (b *bench) sessionCounts() []int {
	if b.short {
		return []int{64}
	}
	return []int{1, 16, 64, 256}
}

// measureMost measures how much both can do.
func (b *bench) measureMost(p pair) ([]series, fans, error) {
	f := fans{watchers: 1000, rounds: 50}
	if b.short {
		f.rounds = 5
	}
	if err := b.warm(p); err != nil {
		return nil, f, err
	}
	var all []series
	for _, w := range workloads {
		for _, sessions := range b.sessionCounts() {
			all = append(all, series{workload: w, sessions: sessions})
		}
	}
	for round := range b.rounds {
		progress("%d servers: round %d of %d", len(p[0].Servers), round+1, b.rounds)
		for i := range all {
			for _, peer := range turns(round) {
				got, err := b.drive(p[peer], all[i].workload, all[i].sessions, 0)
				if err != nil {
					return all, f, err
				}
				all[i].add(peer, got)
			}
		}
		for _, peer := range turns(round) {
			if err := b.fan(p, peer, &f); err != nil {
				return all, f, err
			}
		}
	}
	return all, f, nil
}

// warm lets both do each thing once unmeasured: a JVM compiles what it has seen often enough.
func (b *bench) warm(p pair) error {
	progress("%d servers: warm-up", len(p[0].Servers))
	for _, w := range workloads {
		for range b.warmUps() {
			for _, f := range p {
				if _, err := b.drive(f, w, 64, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *bench) warmUps() int {
	if b.short {
		return 1
	}
	return 3
}

func (b *bench) fan(p pair, peer int, f *fans) error {
	var c cost
	got, err := load.RunFanOut(b.ctx, load.FanOut{Addresses: p[peer].Addresses(), Path: fanOutPath, Data: make([]byte, dataBytes),
		Watchers: f.watchers, Rounds: f.rounds, Mark: c.of(p[peer])})
	if err == nil {
		err = c.failed
	}
	if err != nil {
		return fmt.Errorf("%s, %d watchers: %w", p[peer].Name, f.watchers, err)
	}
	f.events[peer] = append(f.events[peer], float64(got.Events)/got.Elapsed.Seconds())
	f.last[peer] = append(f.last[peer], milliseconds(got.LastP50))
	f.lastMax[peer] = append(f.lastMax[peer], milliseconds(got.LastMax))
	f.eventP99[peer] = append(f.eventP99[peer], milliseconds(got.EventP99))
	f.cpu[peer] = append(f.cpu[peer], c.perOperation(got.Events))
	return nil
}
