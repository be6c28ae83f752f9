package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/sim/history"
	"cairn/packaging/conformance/boxes"
)

const (
	calmMin = 300 * time.Millisecond // between two faults of a history
	calmMax = 2 * time.Second
	longest = 3 * time.Second // a fault of a history
)

// History lets mixed clients work for 20 s under one random fault after the other, and checks all that they saw.
func (s *Suite) History(ctx context.Context, seed uint64) error {
	if _, err := s.cluster.Whole(ctx); err != nil {
		return err
	}
	c, err := s.NewChronicle(ctx, seed)
	if err != nil {
		return err
	}
	defer c.Close()
	working, stop := context.WithTimeout(ctx, historyTime)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(working)
	}()
	faults, err := s.trouble(ctx, working, rand.New(rand.NewPCG(seed, 9)))
	<-done
	if err != nil {
		return err
	}
	if _, err := s.whole(ctx, time.Now()); err != nil {
		return err
	}
	h := c.record.History()
	violations := history.Check(h, history.Options{Patience: checkPatience})
	for box := 1; box <= boxes.Count; box++ {
		tree, err := s.read(ctx, box, c)
		if err != nil {
			return fmt.Errorf("read the tree of box %d: %w", box, err)
		}
		violations = append(violations, history.Final(h, tree)...)
	}
	for _, v := range violations {
		s.ledger.Lost("%v", v)
	}
	s.reportHistory(seed, h, faults)
	return nil
}

// trouble injects faults until working ends, and repairs the last.
func (s *Suite) trouble(ctx, working context.Context, random *rand.Rand) (faults int, err error) {
	for {
		boxes.Pause(working, boxes.Between(random, calmMin, calmMax))
		if working.Err() != nil {
			return faults, ctx.Err()
		}
		leader, err := s.cluster.Whole(ctx)
		if err != nil {
			return faults, err
		}
		fault := NewFault(kinds[random.IntN(len(kinds))], s.cluster, leader, random)
		if err := fault.Begin(); err != nil {
			return faults, err
		}
		faults++
		holding, cancel := context.WithTimeout(working, longest)
		held := fault.Hold(holding)
		cancel()
		if held != nil && holding.Err() == nil {
			return faults, held
		}
		if err := fault.End(); err != nil {
			return faults, err
		}
	}
}

// read reads what a box holds of a history, behind a sync, after all has ended.
func (s *Suite) read(ctx context.Context, box int, c *Chronicle) (map[string]history.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, restMax)
	defer cancel()
	probe := s.load.probes[box-1]
	tree := map[string]history.Node{}
	for _, dir := range []string{"/r", "/m", "/w", "/q"} {
		if _, err := probe.SyncRead(ctx, c.root+dir); err != nil {
			return nil, err
		}
		var names jute.GetChildrenResponse
		if _, err := probe.Do(ctx, jute.OpGetChildren, &jute.PathWatchRequest{Path: c.root + dir}, &names); err != nil {
			return nil, err
		}
		for _, name := range names.Children {
			path := c.root + dir + "/" + name
			var p jute.GetDataResponse
			_, err := probe.Do(ctx, jute.OpGetData, &jute.PathWatchRequest{Path: path}, &p)
			if errors.Is(err, jute.NoNode) {
				continue // a write without an answer came to pass
			}
			if err != nil {
				return nil, err
			}
			tree[path] = history.Node{Value: string(p.Data), Version: p.Stat.Version, Czxid: p.Stat.Czxid, Mzxid: p.Stat.Mzxid}
		}
	}
	return tree, nil
}

func (s *Suite) reportHistory(seed uint64, h *history.History, faults int) {
	answered, locks := 0, 0
	for _, o := range h.Ops {
		if o.Known() {
			answered++
			if o.Kind == history.Acquire {
				locks++
			}
		}
	}
	var r Result
	var violations []string
	r.Lost, r.Wrong, r.SilentExpiry, violations = s.ledger.Take()
	s.results[histories] = append(s.results[histories], r)
	mark := "ok  "
	if r.Lost > 0 || r.Wrong > 0 {
		mark = "FAIL"
	}
	fmt.Printf("%s history, seed %d: %d faults; %d operations, %d answered, %d locks held, %d events; violations %d, expired %d (%d silent)\n",
		mark, seed, faults, len(h.Ops), answered, locks, len(h.Events), r.Lost, r.Wrong, r.SilentExpiry)
	printSome(violations)
}
