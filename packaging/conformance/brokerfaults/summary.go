package main

import (
	"fmt"
	"slices"
	"time"
)

// target is what a kind's times must meet in the long form; 0 is not judged.
type target struct{ p95, max time.Duration }

var targets = map[string]target{
	"kill": {time.Second, 2 * time.Second}, "oneway": {0, 3 * time.Second}, "bothways": {0, 3 * time.Second},
}

// report prints one round.
func (s *Suite) report(seed uint64, at, begun time.Time, fault Fault, r Result, acks, commits int) {
	var violations []string
	r.Violations, violations = s.ledger.Take()
	s.results = append(s.results, r)
	fmt.Printf("%s seed %d, %s %s", mark(r.Violations), seed, at.UTC().Format("15:04:05.000"), fault.Name)
	if len(r.Times) > 0 {
		fmt.Printf("; next acknowledged of %d partitions: %s", len(r.Times), figures(r.Times))
	}
	if len(r.Stock) > 0 {
		fmt.Printf("; stock client %s", figures(r.Stock))
	}
	fmt.Printf("; whole after %v; %d acked, %d commits so far, %v, violations %d\n", ms(r.Whole), acks, commits, ms(time.Since(begun)), r.Violations)
	printSome(violations)
}

func mark(violations int) string {
	if violations > 0 {
		return "FAIL"
	}
	return "ok  "
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

// summarize prints the figures of each kind and says what was missed. Times are judged in the long form only.
func (s *Suite) summarize(long bool) (missed []string) {
	byKind := map[string][]Result{}
	for _, r := range s.results {
		byKind[r.Kind] = append(byKind[r.Kind], r)
	}
	for _, kind := range append(slices.Clone(kinds), "the clean stop") {
		results := byKind[kind]
		if len(results) == 0 {
			continue
		}
		var times, stock, whole []time.Duration
		violations := 0
		for _, r := range results {
			times, stock, whole = append(times, r.Times...), append(stock, r.Stock...), append(whole, r.Whole)
			violations += r.Violations
		}
		fmt.Printf("%s: %d rounds, violations %d; next acknowledged of %d partitions %s; whole %s", kind, len(results), violations, len(times), figures(times), figures(whole))
		if len(stock) > 0 {
			fmt.Printf("; stock client %s", figures(stock))
		}
		fmt.Println()
		if violations > 0 {
			missed = append(missed, fmt.Sprintf("%s: %d violations", kind, violations))
		}
		slices.Sort(times)
		t := targets[kind]
		if p95 := quantile(times, 95); long && t.p95 > 0 && p95 > t.p95 {
			missed = append(missed, fmt.Sprintf("%s: the next acknowledgement came after %v at the 95th percentile, at most %v", kind, ms(p95), t.p95))
		}
		if worst := quantile(times, 100); long && t.max > 0 && worst > t.max {
			missed = append(missed, fmt.Sprintf("%s: the next acknowledgement came after %v, at most %v", kind, ms(worst), t.max))
		}
	}
	return missed
}

// figures are the median, the 95th percentile and the maximum.
func figures(times []time.Duration) string {
	if len(times) == 0 {
		return "-"
	}
	times = slices.Sorted(slices.Values(times))
	return fmt.Sprintf("p50 %v p95 %v max %v", ms(quantile(times, 50)), ms(quantile(times, 95)), ms(quantile(times, 100)))
}

// quantile is the smallest value that so many percent do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*percent+99)/100-1, 0)]
}
