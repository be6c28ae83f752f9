package main

import (
	"context"
	"errors"
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
	roundMax = 4 * time.Minute // far more than a round needs: the bound of the whole run
	aroundIt = 5 * time.Minute
)

// The load of the two forms.
var (
	shortShape = Shape{Topics: 6, Partitions: 2, Keys: 6 * 2 * producersCount * 2, DiskMB: 256, Java: 1}
	longShape  = Shape{Topics: 20, Partitions: 3, Keys: 20 * 3 * producersCount * 2, DiskMB: 1536, Java: 2}
)

func main() {
	binary := flag.String("cairn", "", "cairn's binary")
	classpath := flag.String("java", "", "classpath of Kafka's jars; without it there are no Java producers")
	dir := flag.String("dir", "", "directory to work in: empty, or that of an earlier run, which goes on with its seed and its load")
	plan := flag.String("plan", "", "kinds of faults and how many rounds of each: kill:100, or kill:3,oneway:2; kinds are "+strings.Join(kinds, ", ")+", "+mixed)
	without := flag.String("without", "", "kinds that mixed leaves out, with commas between")
	seed := flag.Uint64("seed", 0, "the first round's; the next has the next one; 0: a new one")
	long := flag.Bool("long", false, "more topics, and fail also when a target of time is missed")
	flag.Parse()
	steps, err := boxes.ParsePlan(*plan, append(slices.Clone(kinds), mixed))
	if *binary == "" || *dir == "" || err != nil {
		fmt.Fprintln(os.Stderr, err)
		flag.Usage()
		os.Exit(2)
	}
	if *seed == 0 {
		*seed = uint64(rand.Uint32())
	}
	missed, err := run(*binary, *classpath, *dir, steps, strings.Split(*without, ","), *seed, *long)
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

// run does all rounds on one ensemble and removes everything again but its directory.
func run(binary, classpath, dir string, steps []boxes.Step, without []string, seed uint64, long bool) (missed []string, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	shape, rounds, disks := shortShape, 0, false
	if long {
		shape = longShape
	}
	for _, s := range steps {
		rounds += s.Count
		disks = disks || s.Kind == "full" || s.Kind == mixed
	}
	if !disks {
		shape.DiskMB = 0
	}
	if classpath == "" {
		shape.Java = 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rounds)*roundMax+aroundIt)
	defer cancel()
	suite, err := NewSuite(ctx, binary, classpath, dir, shape, seed)
	if err != nil {
		return nil, err
	}
	suite.without = without
	defer func() {
		missed = suite.summarize(long)
		err = errors.Join(err, suite.Close())
	}()
	for _, s := range steps {
		if s.Kind == "full" && suite.disks == nil {
			return nil, errors.New("the boxes of the earlier run have no disks of their own to fill")
		}
		for range s.Count {
			if err := suite.Round(ctx, s.Kind); err != nil {
				return nil, fmt.Errorf("%s, seed %d: %w", s.Kind, suite.state.Seed+uint64(suite.state.Rounds)-1, err)
			}
		}
	}
	return nil, suite.Finish(ctx)
}
