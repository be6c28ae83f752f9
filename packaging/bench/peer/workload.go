package main

import (
	"fmt"

	"cairn/packaging/bench/fleet"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
)

const (
	dataBytes       = 100
	sessionPrefix   = "/bench/s"
	parentOfCreates = "/bench/c"
	fanOutPath      = "/bench/watched"
)

// sessionsMax is the most sessions of a run; each has a znode of its own.
const sessionsMax = 256

// workload is one kind of load.
type workload struct {
	name   string
	writes bool
	// talkers makes those of one run, and what takes its traces away again, or nil.
	talkers func() (talker func(int) load.Talker, undo func(int) load.Talker)
}

var workloads = []workload{
	{"create", true, creates},
	{"setData", true, func() (func(int) load.Talker, func(int) load.Talker) { return mix(1), nil }},
	{"getData", false, func() (func(int) load.Talker, func(int) load.Talker) { return mix(0), nil }},
	{"9 getData to 1 setData", true, func() (func(int) load.Talker, func(int) load.Talker) { return mix(10), nil }},
}

// mix is about the session's own znode.
func mix(every uint32) func(int) load.Talker {
	return func(i int) load.Talker {
		path := fmt.Sprintf("%s%08d", sessionPrefix, i)
		return &load.Mixer{Read: frames.GetData(path), Write: frames.SetData(path, make([]byte, dataBytes)), Every: every}
	}
}

// creates makes znodes until the run ends; they are deleted after it, so that neither tree grows from run to run.
func creates() (talker, undo func(int) load.Talker) {
	var made [sessionsMax]uint32 // by the connection that makes them
	path := func(i int) string { return frames.Numbered(fmt.Sprintf("%s/%03d-", parentOfCreates, i)) }
	talker = func(i int) load.Talker {
		return &load.Walker{Request: frames.Create(path(i), make([]byte, dataBytes)), Number: func(id uint32) (uint32, bool) {
			made[i] = id
			return id - 1, true
		}}
	}
	undo = func(i int) load.Talker {
		return &load.Walker{Request: frames.Delete(path(i)), Number: load.First(made[i])}
	}
	return talker, undo
}

// costed is one measured run: what the client has seen, and what all servers have used for it.
type costed struct {
	load.Result
	cost
}

// drive runs a workload against a fleet, at most as fast as rate where that is not 0.
func (b *bench) drive(f *fleet.Fleet, w workload, sessions int, rate float64) (costed, error) {
	talker, undo := w.talkers()
	var c costed
	plan := load.Plan{Addresses: f.Addresses(), Connections: sessions, Window: 1, WarmUp: b.seconds(0.6), Measure: b.seconds(3),
		Talker: talker, Rate: rate, Mark: c.of(f)}
	if rate > 0 {
		plan.Window = 16 // a late answer must not hold the next request back
	}
	var err error
	if c.Result, err = load.Run(b.ctx, plan); err == nil {
		err = c.failed
	}
	if err == nil && c.Requests == 0 {
		err = fmt.Errorf("no request was answered")
	}
	if err == nil && undo != nil {
		_, err = load.Run(b.ctx, load.Plan{Addresses: f.Addresses(), Connections: sessions, Window: 64, Talker: undo, UntilDone: true})
	}
	if err != nil {
		return c, fmt.Errorf("%s, %s, %d sessions: %w", f.Name, w.name, sessions, err)
	}
	return c, nil
}
