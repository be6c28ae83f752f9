package main

import (
	"context"
	"fmt"
	"time"

	"cairn/packaging/bench/fleet"
	"cairn/packaging/bench/measure"
	"cairn/packaging/bench/table"
)

const (
	millionMB      = 350 // resident
	millionSeconds = 5   // to serve again
	stopPatience   = 30 * time.Second
)

// measureMillion: one server with a million znodes of 100 bytes; its memory when they have been created and after starts,
// and how long a start takes until it serves.
func (b *bench) measureMillion() (rows []table.Row, err error) {
	dir, err := b.clear("million")
	if err != nil {
		return nil, err
	}
	t := b.smallTree()
	f, err := b.start(dir, 1, t)
	if err != nil {
		return nil, err
	}
	defer f.Kill()
	s := f.Servers[0]
	resident := func(when string) error {
		m, err := measure.ResidentMemory(s.PID())
		rows = append(rows, table.Row{Name: fmt.Sprintf("one server, %s: resident %s", t, when), Value: float64(m.RSS) / 1e6, Unit: "MB",
			Target: millionMB, Promise: table.AtMost, Note: fmt.Sprintf("highest so far %s MB", measure.Number(float64(m.Peak)/1e6))})
		return err
	}
	if err := resident("when they have been created"); err != nil {
		return rows, err
	}
	for _, way := range []struct {
		name string
		end  func() (note string, err error)
	}{
		{"a clean stop", func() (string, error) { return "page cache warm", s.Stop(s.PID(), stopPatience) }},
		{"kill -9", func() (string, error) { s.Kill(); return "page cache warm", nil }},
		{"kill -9, cold", func() (string, error) { s.Kill(); return measure.DropCache(s.Dir) }},
	} {
		progress("%s: start after %s", t, way.name)
		note, err := way.end()
		if err != nil {
			return rows, err
		}
		took, err := b.restart(s)
		if err != nil {
			return rows, err
		}
		rows = append(rows, table.Row{Name: fmt.Sprintf("one server, %s: start after %s until it serves", t, way.name), Value: took.Seconds(), Unit: "s",
			Target: millionSeconds, Promise: table.AtMost, Note: note})
		if err := b.await(settleTime); err != nil {
			return rows, err
		}
		if err := resident("after a start"); err != nil {
			return rows, err
		}
		if nodes, err := s.Monitor("zk_znode_count"); err != nil || nodes < float64(t.znodes) {
			return rows, fmt.Errorf("%v znodes are there after %s (%w)", nodes, way.name, err)
		}
	}
	return rows, nil
}

// settleTime is how long after a start its memory is read: what a start has used is given back within it.
const settleTime = 3 * time.Second

// restart starts a server and says how long it took to serve.
func (b *bench) restart(s *fleet.Server) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	begin := time.Now()
	if err := s.Spawn(); err != nil {
		return 0, err
	}
	err := s.Ready(ctx)
	return time.Since(begin), err
}

// await lets time pass.
func (b *bench) await(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}
