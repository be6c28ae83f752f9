package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"cairn/packaging/conformance/boxes"
)

const (
	sessionsCount = 50
	warmMin       = 300 * time.Millisecond // of load before the fault
	warmMax       = 900 * time.Millisecond
	restMax       = 30 * time.Second // until every write has its outcome, and every box was read
	violationsTop = 12               // printed of a round
)

// Suite is the rounds of one run on one ensemble.
type Suite struct {
	network *boxes.Network
	cluster *boxes.Cluster
	ledger  *Ledger
	load    *Load
	results map[string][]Result
}

// Result is one round's.
type Result struct {
	Leader       bool
	First        time.Duration
	Gap          time.Duration // longest of all sessions
	GapMedian    time.Duration
	Lost, Wrong  int
	SilentExpiry int
}

// NewSuite starts the boxes and the load.
func NewSuite(ctx context.Context, binary, dir string, seed uint64) (*Suite, error) {
	s := &Suite{ledger: NewLedger(sessionsCount), results: map[string][]Result{}}
	var err error
	if s.network, err = boxes.NewNetwork(0); err != nil {
		return nil, err
	}
	if err = s.begin(ctx, binary, dir, seed); err != nil {
		return nil, fmt.Errorf("%w; %w", err, s.Close())
	}
	return s, nil
}

func (s *Suite) begin(ctx context.Context, binary, dir string, seed uint64) (err error) {
	if s.cluster, err = boxes.NewCluster(s.network, binary, dir); err != nil {
		return err
	}
	for box := 1; box <= boxes.Count; box++ {
		if err := s.cluster.Start(box); err != nil {
			return err
		}
	}
	if _, err := s.cluster.Whole(ctx); err != nil {
		return err
	}
	s.load, err = StartLoad(ctx, s.cluster, s.ledger, seed)
	return err
}

// Close ends all.
func (s *Suite) Close() error {
	if s.load != nil {
		s.load.Close()
	}
	if s.cluster != nil {
		_ = s.cluster.Close() // a box that a fault has left in a bad state is killed
	}
	return s.network.Close()
}

// Round does one fault and judges it. An error means that the run cannot go on.
func (s *Suite) Round(ctx context.Context, kind string, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 7))
	leader, err := s.cluster.Whole(ctx)
	if err != nil {
		return err
	}
	s.ledger.Begin()
	if err := s.load.Open(ctx, fmt.Sprintf("%s/%s-%d", root, kind, seed)); err != nil {
		return err
	}
	boxes.Pause(ctx, boxes.Between(random, warmMin, warmMax))
	fault := NewFault(kind, s.cluster, leader, random)
	if err := fault.Begin(); err != nil {
		return err
	}
	at := time.Now()
	held := fault.Hold(ctx)
	if err := fault.End(); err != nil {
		return err
	}
	ended := time.Now()
	if held != nil {
		return held
	}
	whole, err := s.whole(ctx, ended)
	if err != nil {
		return err
	}
	if err := s.rest(ctx); err != nil {
		return err
	}
	fault.Name = at.UTC().Format("15:04:05.000 ") + fault.Name // as the boxes' logs say it
	s.report(kind, seed, fault, s.ledger.Measure(at), whole)
	return nil
}

// whole waits until every box is part of the ensemble again, which a sync through it shows, and says how long that took.
func (s *Suite) whole(ctx context.Context, ended time.Time) (time.Duration, error) {
	if _, err := s.cluster.Whole(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, boxes.WholeMax)
	defer cancel()
	for i, probe := range s.load.probes {
		for {
			_, err := probe.SyncRead(ctx, root)
			if err == nil {
				break
			}
			if !errors.Is(err, errLost) {
				return 0, fmt.Errorf("a sync through box %d, %v after the fault has ended: %w", i+1, ms(time.Since(ended)), err)
			}
		}
	}
	return time.Since(ended), nil
}

// rest lets every write come to its outcome and reads everything through every box.
func (s *Suite) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restMax)
	defer cancel()
	if !s.load.Shut(ctx) {
		return fmt.Errorf("writes have no outcome %v after all boxes were whole again", restMax)
	}
	return s.load.verify(ctx)
}

func (s *Suite) report(kind string, seed uint64, fault Fault, m Measure, whole time.Duration) {
	r := Result{Leader: fault.Leader, First: m.First, Gap: m.Gaps[len(m.Gaps)-1], GapMedian: m.Gaps[len(m.Gaps)/2]}
	var violations []string
	r.Lost, r.Wrong, r.SilentExpiry, violations = s.ledger.Take()
	s.results[kind] = append(s.results[kind], r)
	mark := "ok  "
	if r.Lost > 0 || r.Wrong > 0 {
		mark = "FAIL"
	}
	fmt.Printf("%s seed %d, %s: first write %v after; longest gap of a session %v, median %v; whole %v after the end; %d acked, lost %d, expired %d (%d silent)\n",
		mark, seed, fault.Name, ms(r.First), ms(r.Gap), ms(r.GapMedian), ms(whole), m.Acks, r.Lost, r.Wrong, r.SilentExpiry)
	printSome(violations)
}

// printSome prints what went wrong, down to a bound.
func printSome(violations []string) {
	for i, v := range violations {
		if i == violationsTop {
			fmt.Printf("     … and %d more\n", len(violations)-i)
			break
		}
		fmt.Println("     " + v)
	}
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
