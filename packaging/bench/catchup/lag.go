package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"cairn/packaging/bench/fleet"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
	"cairn/packaging/bench/table"
)

const (
	heapGrowthMB = 128
	offeredPart  = 0.8
	servedPart   = 0.99 // of what is offered, over each stretch
	writers      = 64   // sessions of the load
	writeBytes   = 100
	// awayEntries are written while the follower is away: far more than the leader keeps in memory for others
	// (limits.CatchUpEntries, twice), so that it must be brought a snapshot.
	awayEntries = 30_000
	// beforeTime is how long the heap is looked at before the follower is started, afterTime how long the load goes on when
	// it has caught up.
	beforeTime = 10 * time.Second
	afterTime  = 5 * time.Second
	// catchUpPatience bounds the catching up.
	catchUpPatience = 5 * time.Minute
)

// measureLag: three servers with a tree. The highest rate of writes is measured; a follower is killed; 80 % of that rate is
// offered to the other two from then on, until the follower, started again when the log has gone far beyond it, has caught
// up by a snapshot.
func (b *bench) measureLag(t tree) (rows []table.Row, err error) {
	dir, err := b.clear(t.name)
	if err != nil {
		return nil, err
	}
	f, err := b.start(dir, 3, t)
	if err != nil {
		return nil, err
	}
	defer f.Kill()
	most, err := load.Run(b.ctx, b.writes(f.Addresses(), t, 0, 10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("measure the most: %w", err)
	}
	progress("%s: %.0f writes/s at most", t, most.PerSecond())
	l := &lag{bench: b, tree: t, rate: offeredPart * most.PerSecond()}
	rows = append(rows, table.Row{Name: fmt.Sprintf("three servers, %s: most setData of %d bytes, %d sessions", t, writeBytes, writers),
		Value: most.PerSecond(), Unit: "writes/s", Note: "just before; all three serve"})
	if err := l.choose(f); err != nil {
		return rows, err
	}
	got, err := l.run()
	return append(rows, got...), err
}

// writes is a load of setData on znodes in an order that looks random.
func (b *bench) writes(addresses []string, t tree, rate float64, measured time.Duration) load.Plan {
	prefix, count := t.written()
	set := frames.SetData(frames.Numbered(prefix), make([]byte, writeBytes))
	plan := load.Plan{Addresses: addresses, Connections: writers, Window: 1, Rate: rate, WarmUp: 2 * time.Second, Measure: measured,
		Talker: func(i int) load.Talker { return &load.Walker{Request: set, Number: load.Scattered(count, uint32(i))} }}
	if rate > 0 {
		plan.Window = 64 // a late answer must not hold the next request back
	}
	return plan
}

// lag is one follower's absence and return.
type lag struct {
	*bench
	tree     tree
	rate     float64
	leader   *fleet.Server
	follower *fleet.Server
	staying  []string // doors of the servers that are not killed
	samples  *samples
	logged   int64 // bytes of the follower's log before it was started again
}

// choose finds who leads and who is to be killed.
func (l *lag) choose(f *fleet.Fleet) (err error) {
	if l.leader, err = f.Leader(); err != nil {
		return err
	}
	for _, s := range f.Servers {
		if l.follower == nil && s != l.leader {
			l.follower = s
		} else {
			l.staying = append(l.staying, s.Client)
		}
	}
	return nil
}

// run kills the follower and starts it again, under the load.
func (l *lag) run() (rows []table.Row, err error) {
	l.follower.Kill()
	away, err := l.leader.Zxid()
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	plan := l.writes(l.staying, l.tree, l.rate, 0)
	plan.Until = stop
	type outcome struct {
		load.Result
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		got, err := load.Run(l.ctx, plan)
		ended <- outcome{got, err}
	}()
	l.samples = sample(l.leader)
	back, took, err := l.bringBack(away)
	close(stop)
	l.samples.end()
	served := <-ended
	if err := errors.Join(err, served.err, l.samples.failed); err != nil {
		return nil, err
	}
	return l.rows(served.Result, back, took)
}

// bringBack waits until the log has gone far beyond the follower, starts it, and waits until it has what the leader had when
// it looked the same. It returns when the follower was started, and how long it took.
func (l *lag) bringBack(away uint64) (back time.Time, took time.Duration, err error) {
	err = l.poll("the log goes on without the follower", catchUpPatience, func() (bool, error) {
		now, err := l.leader.Zxid()
		return now >= away+awayEntries && time.Since(l.samples.begun) > beforeTime, err
	})
	if err != nil {
		return back, 0, err
	}
	progress("%s: the follower comes back", l.tree)
	info, err := os.Stat(l.follower.Log())
	if err != nil {
		return back, 0, err
	}
	l.logged, back = info.Size(), time.Now()
	if err := l.follower.Spawn(); err != nil {
		return back, 0, err
	}
	err = l.poll("the follower catches up", catchUpPatience, func() (bool, error) {
		if !l.follower.Running() {
			return false, fmt.Errorf("server %d ended: %w", l.follower.ID, l.follower.Exit())
		}
		now, err := l.leader.Zxid()
		if err != nil {
			return false, err
		}
		got, err := l.follower.Zxid()
		return err == nil && got+uint64(l.rate) >= now, nil // within a second of the load
	})
	took = time.Since(back)
	if err == nil {
		err = l.await(afterTime)
	}
	return back, took, err
}

// rows are what was seen.
func (l *lag) rows(served load.Result, back time.Time, took time.Duration) ([]table.Row, error) {
	log, err := os.ReadFile(l.follower.Log())
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("three servers, %s, a follower that comes back: ", l.tree)
	snapshots := float64(bytes.Count(log[l.logged:], []byte("went on from the leader's snapshot")))
	before, during := l.samples.heap(back.Add(-beforeTime), back), l.samples.heap(back, time.Now())
	memory, err := measure.ResidentMemory(l.leader.PID())
	if err != nil {
		return nil, err
	}
	return []table.Row{
		{Name: name + "snapshots that it was brought", Value: snapshots, Unit: "snapshots", Target: 1, Promise: table.Exactly,
			Note: fmt.Sprintf("%d and more writes behind", awayEntries)},
		{Name: name + "from its start until it is within a second of the leader", Value: took.Seconds(), Unit: "s"},
		{Name: name + "writes answered", Value: served.PerSecond(), Unit: "writes/s", Target: servedPart * l.rate, Promise: table.AtLeast,
			Note: fmt.Sprintf("%s/s offered to the other two; p50 %.1f ms, p99 %.1f ms", measure.Number(l.rate), 1e3*served.P50.Seconds(), 1e3*served.P99.Seconds())},
		{Name: name + "writes committed in the slowest two seconds of it", Value: l.samples.slowest(back, time.Now()), Unit: "writes/s"},
		{Name: name + "leader's highest heap, more than before", Value: (during - before) / 1e6, Unit: "MB", Target: heapGrowthMB, Promise: table.AtMost,
			Note: fmt.Sprintf("from %s to %s MB, go_memstats_heap_inuse_bytes under the same load", measure.Number(before/1e6), measure.Number(during/1e6))},
		{Name: name + "leader's VmRSS at the end", Value: float64(memory.RSS) / 1e6, Unit: "MB", Note: fmt.Sprintf("highest %s MB", measure.Number(float64(memory.Peak)/1e6))},
	}, nil
}
