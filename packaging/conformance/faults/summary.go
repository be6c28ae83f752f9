package main

import (
	"fmt"
	"slices"
	"time"
)

// Targets are what a run must meet.
type Targets struct {
	P95, Max time.Duration // of the time to the first acknowledged write where the leader was hit; 0 is not judged
}

var (
	// longTargets are those of the product; a long form that misses one fails.
	longTargets = Targets{P95: time.Second, Max: 2 * time.Second}
	// shortTargets leave room for a machine that is busy with other things.
	shortTargets = Targets{Max: 6 * time.Second}
)

// summarize prints the figures of one kind and says what was missed.
func summarize(kind string, results []Result, t Targets) (missed []string) {
	var first, gaps []time.Duration
	lost, wrong, silent := 0, 0, 0
	for _, r := range results {
		lost, wrong, silent = lost+r.Lost, wrong+r.Wrong, silent+r.SilentExpiry
		gaps = append(gaps, r.Gap)
		if r.Leader {
			first = append(first, r.First)
			if r.First == 0 {
				missed = append(missed, kind+": a round without any write after the fault")
			}
		}
	}
	slices.Sort(first)
	slices.Sort(gaps)
	fmt.Printf("%s: %d rounds, %d of them on the leader: first write p50 %v p95 %v max %v; longest gap of a session p50 %v p95 %v max %v; lost %d, expired %d, expired after silence %d\n",
		kind, len(results), len(first), ms(quantile(first, 50)), ms(quantile(first, 95)), ms(quantile(first, 100)),
		ms(quantile(gaps, 50)), ms(quantile(gaps, 95)), ms(quantile(gaps, 100)), lost, wrong, silent)
	if lost > 0 || wrong > 0 {
		missed = append(missed, fmt.Sprintf("%s: lost %d, expired %d", kind, lost, wrong))
	}
	if p95 := quantile(first, 95); t.P95 > 0 && p95 > t.P95 {
		missed = append(missed, fmt.Sprintf("%s: the first write came %v after the fault at the 95th percentile, at most %v", kind, ms(p95), t.P95))
	}
	if worst := quantile(first, 100); t.Max > 0 && worst > t.Max {
		missed = append(missed, fmt.Sprintf("%s: the first write came %v after the fault, at most %v", kind, ms(worst), t.Max))
	}
	return missed
}

// summarizeHistories prints how many histories were whole.
func summarizeHistories(results []Result) (missed []string) {
	violations, wrong, silent := 0, 0, 0
	for _, r := range results {
		violations, wrong, silent = violations+r.Lost, wrong+r.Wrong, silent+r.SilentExpiry
	}
	fmt.Printf("%s: %d of %v; violations %d, expired %d, expired after silence %d\n", histories, len(results), historyTime, violations, wrong, silent)
	if violations > 0 || wrong > 0 {
		missed = append(missed, fmt.Sprintf("%s: violations %d, expired %d", histories, violations, wrong))
	}
	return missed
}

// quantile is the smallest value that so many percent do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*percent+99)/100-1, 0)]
}
