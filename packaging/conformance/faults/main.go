package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"cairn/packaging/conformance/boxes"
)

const (
	roundMax = time.Minute // far more than a round needs: the bound of the whole run
	aroundIt = 2 * time.Minute
)

func main() {
	binary := flag.String("cairn", "", "cairn's binary")
	dir := flag.String("dir", "", "empty directory to work in")
	plan := flag.String("plan", "", "kinds of faults and how many rounds of each: kill:100, or kill:3,oneway:2; kinds are "+strings.Join(kinds, ", ")+", "+histories)
	seed := flag.Uint64("seed", 0, "the first round's; the next has the next one; 0: a new one")
	long := flag.Bool("long", false, "fail also when a target of time is missed")
	flag.Parse()
	steps, err := boxes.ParsePlan(*plan, append(slices.Clone(kinds), histories))
	if *binary == "" || *dir == "" || err != nil {
		fmt.Fprintln(os.Stderr, err)
		flag.Usage()
		os.Exit(2)
	}
	if *seed == 0 {
		*seed = uint64(rand.Uint32())
	}
	targets := shortTargets
	if *long {
		targets = longTargets
	}
	missed, err := run(*binary, *dir, steps, *seed, targets)
	for _, m := range missed {
		fmt.Println("MISSED", m)
	}
	if err != nil {
		fmt.Println("FAIL  the run could not go on:", err)
	}
	if err != nil || len(missed) > 0 {
		os.Exit(1)
	}
}

// run does all rounds on one ensemble and removes everything again.
func run(binary, dir string, steps []boxes.Step, seed uint64, targets Targets) (missed []string, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	rounds := 0
	for _, s := range steps {
		rounds += s.Count
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rounds)*roundMax+aroundIt)
	defer cancel()
	suite, err := NewSuite(ctx, binary, dir, seed)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closed := suite.Close(); err == nil {
			err = closed
		}
	}()
	for _, s := range steps {
		for i := range s.Count {
			round := suite.History
			if s.Kind != histories {
				round = func(ctx context.Context, seed uint64) error { return suite.Round(ctx, s.Kind, seed) }
			}
			if err := round(ctx, seed+uint64(i)); err != nil {
				suite.last(s.Kind, seed+uint64(i))
				return missed, fmt.Errorf("%s, seed %d: %w", s.Kind, seed+uint64(i), err)
			}
		}
		if s.Kind == histories {
			missed = append(missed, summarizeHistories(suite.results[s.Kind])...)
			continue
		}
		missed = append(missed, summarize(s.Kind, suite.results[s.Kind], targets)...)
	}
	if n := suite.load.probed.Load(); n > 0 {
		fmt.Printf("%d reads behind a sync were judged while boxes failed\n", n)
	}
	return missed, nil
}

// last prints what was found wrong in a round that did not come to its end.
func (s *Suite) last(kind string, seed uint64) {
	_, _, _, violations := s.ledger.Take()
	for _, v := range violations[:min(len(violations), violationsTop)] {
		fmt.Printf("     %s, seed %d: %s\n", kind, seed, v)
	}
}
