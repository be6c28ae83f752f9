package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"cairn/engine/ensemble/zkserver"
)

var (
	seeds   = flag.Int("sim.seeds", seedsDefault, "how many seeds")
	from    = flag.Uint64("sim.from", 1, "the first seed")
	seconds = flag.Int("sim.seconds", 4, "virtual seconds of faults for each seed")
	traces  = flag.String("sim.trace", "", "a directory for the whole traces of the seeds, with what the boxes log")
)

// TestMain gives the simulation one processor and no garbage collector of its own accord: a goroutine that a step wakes
// does not run before the step is over.
func TestMain(m *testing.M) {
	flag.Parse()
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	os.Exit(m.Run())
}

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, cfg config) *world {
	t.Helper()
	cryptotest.SetGlobalRandom(t, cfg.seed)
	var w *world
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, cfg)
		w.run()
	})
	w.judge() // outside of the bubble: the search for a linearization takes real time
	runtime.GC()
	return w
}

// report fails the test with what is needed to look into it.
func (w *world) report(t *testing.T) {
	t.Helper()
	if w.failure == "" {
		return
	}
	end := w.recent[max(0, len(w.recent)-recentMax):]
	t.Errorf("seed %d, %s\n\nthe last steps:\n%s\n\nreplay: go test ./engine/sim -run '%s$' -sim.seeds=1 -sim.from=%d -sim.seconds=%d",
		w.cfg.seed, w.failure, strings.Join(end, "\n"), w.testName(), w.cfg.seed, w.cfg.seconds)
}

// eachSeed runs what the flags ask for, with boxes that have a broker or not. count adds what a run has to tell to the total.
func eachSeed(t *testing.T, brokers bool, count func(w *world, total map[string]int)) {
	total := map[string]int{}
	began := time.Now()
	for seed := *from; seed < *from+uint64(*seeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := simulate(t, config{seed: seed, seconds: *seconds, brokers: brokers, trace: *traces != ""})
			if *traces != "" {
				if err := os.WriteFile(filepath.Join(*traces, fmt.Sprint(w.testName(), seed)), []byte(w.lines.String()), 0o600); err != nil {
					t.Error(err)
				}
			}
			w.report(t)
			for name, n := range w.faults.counts {
				total[name] += n
			}
			total["steps"] += w.steps
			count(w, total)
		})
	}
	t.Logf("%d seeds of %d s in %v: %v", *seeds, *seconds, time.Since(began).Round(time.Millisecond), total)
}

// testName is the test that runs such a world for any seed.
func (w *world) testName() string {
	if w.kafka != nil {
		return "TestBrokers"
	}
	return "TestSeeds"
}

// Boxes die, lose power, are cut off, stand still and come back, while clients work: no rule of theirs is ever broken, no
// two boxes disagree, and all serve again when it is over.
func TestSeeds(t *testing.T) {
	eachSeed(t, false, func(w *world, total map[string]int) {
		total["snapshots carried"] += w.snapshots
		total["tails damaged"] += w.powerCuts
		for _, c := range w.clients {
			total["sessions expired"] += c.expired
		}
		total["operations"] += len(w.record.History().Ops)
	})
}

// Servers that answer a read before the session's own earlier write is applied are found out, in every run, without any
// fault's help.
func TestABugIsFound(t *testing.T) {
	for seed := uint64(201); seed <= 203; seed++ {
		broken := func(cfg zkserver.Config) zkserver.Config { return cfg.WithEarlyReads(t) }
		w := simulate(t, config{seed: seed, seconds: 3, calm: true, server: broken})
		if w.broken["reads"] == 0 {
			t.Errorf("seed %d: servers answer reads early: rules broken %v, %q", seed, w.broken, w.failure)
		}
		w = simulate(t, config{seed: seed, seconds: 3, calm: true})
		w.report(t)
	}
}

// sameTrace compares two traces of a seed.
func sameTrace(t *testing.T, seed uint64, a, b []string) {
	t.Helper()
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("seed %d: of %d and %d lines, line %d is\n%s\nand\n%s", seed, len(a), len(b), i+1, strings.Join(a[max(0, i-5):min(len(a), i+1)], "\n"),
				strings.Join(b[max(0, i-5):min(len(b), i+1)], "\n"))
		}
	}
}

// replays fails the test unless each seed gives one trace, byte for byte, twice. A run in which the machine held a step up is
// made again: the runtime hands the processor on in the middle of what lasts, and goroutines that became runnable together go in
// another order.
func replays(t *testing.T, from uint64, cfg config) {
	t.Helper()
	trace := func(seed uint64) []string {
		cfg.seed, cfg.trace = seed, true
		for range heldUpMax {
			w := simulate(t, cfg)
			w.report(t)
			if !w.heldUp {
				return strings.Split(w.lines.String(), "\n")
			}
		}
		t.Skipf("seed %d: %d runs, and each was held up: too busy a machine to see whether a seed replays", seed, heldUpMax)
		return nil
	}
	var other []string
	for seed := from; seed < from+replayed; seed++ {
		a := trace(seed)
		sameTrace(t, seed, a, trace(seed))
		if len(a) < 5000 {
			t.Fatalf("seed %d: a trace of %d lines: nothing happened", seed, len(a))
		}
		if slices.Equal(a, other) {
			t.Fatal("two seeds, one trace: the seed decides nothing")
		}
		other = a
	}
}

// heldUpMax is how often a run is made again.
const heldUpMax = 50

// One seed is one trace: every step, every frame and message, every batch that is applied. Two seeds are two.
func TestASeedReplays(t *testing.T) { replays(t, 101, config{seconds: 3}) }
