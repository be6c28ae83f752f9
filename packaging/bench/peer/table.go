package main

import (
	"fmt"
	"io"

	"cairn/packaging/bench/measure"
)

// What is promised at equal load.
const (
	perCPUTarget = 2.0  // operations of a processor second, cairn's by ZooKeeper's
	memoryTarget = 0.25 // memory, cairn's by ZooKeeper's
)

// result are the figures of ensembles of one size.
type result struct {
	servers int
	most    []series
	equal   []series
	fans    fans
	memory  resident
	idle    [2]measure.Figures // milliseconds of processor time a second
}

const durable = "Acknowledged writes are on stable storage in every figure: ZooKeeper with forceSync=yes, cairn after fdatasync, " +
	"of a majority where there are three servers.\n"

// printTables writes the facts as a list and then a table for each size and question.
func printTables(out io.Writer, facts []string, results []result) error {
	w := &writer{out: out}
	for _, fact := range facts {
		w.line("- %s", fact)
	}
	w.line("- both: the same zoo.cfg, znodes of %d bytes; ZooKeeper with %s, cairn with --memory %s", dataBytes, heapFlag, memoryFlag)
	w.line("\n%s\nEach figure: median (min–max) of the rounds, cairn and ZooKeeper in turn; ratio: cairn by ZooKeeper, round by round.\n", durable)
	for i := range results {
		r := &results[i]
		w.line("### %s\n", size(r.servers))
		w.series("As fast as they answer, one request in flight in each session:", r.most)
		w.series(fmt.Sprintf("At equal load, %.0f %% of what the slower one could do:", 100*equalPart), r.equal)
		w.rest(r)
	}
	return w.err
}

func size(servers int) string {
	if servers == 1 {
		return "One server"
	}
	return fmt.Sprintf("%d servers on the same machine and disk", servers)
}

// writer keeps the first error.
type writer struct {
	out io.Writer
	err error
}

func (w *writer) line(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, format+"\n", args...)
	}
}

func (w *writer) series(title string, all []series) {
	if len(all) == 0 {
		return
	}
	w.line("%s\n", title)
	w.line("| what | sessions | offered/s | cairn op/s | ZooKeeper op/s | ratio | cairn p50 / p99 ms | ZooKeeper p50 / p99 ms | " +
		"cairn µs-CPU/op | ZooKeeper µs-CPU/op | op per CPU-s, ratio | verdict | written/op, cairn / ZooKeeper |")
	w.line("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range all {
		offered := "-"
		if s.rate > 0 {
			offered = measure.Number(s.rate)
		}
		perCPU := s.cpu[1].Ratios(s.cpu[0])
		w.line("| %s | %d | %s | %s | %s | %s | %s / %s | %s / %s | %s | %s | %s | %s | %s / %s |",
			s.workload.name, s.sessions, offered, s.rates[0], s.rates[1], s.rates[0].Ratios(s.rates[1]),
			measure.Number(s.p50[0].Median()), measure.Number(s.p99[0].Median()), measure.Number(s.p50[1].Median()), measure.Number(s.p99[1].Median()),
			s.cpu[0], s.cpu[1], perCPU, verdict(s.rate > 0, perCPU.Median() >= perCPUTarget, fmt.Sprintf("≥ %g", perCPUTarget)),
			measure.Number(s.disk[0].Median()), measure.Number(s.disk[1].Median()))
	}
	w.line("")
}

// rest are the watches, the memory and the idling.
func (w *writer) rest(r *result) {
	w.line("| what | cairn | ZooKeeper | unit | ratio | verdict |")
	w.line("|---|---|---|---|---|---|")
	f := &r.fans
	name := fmt.Sprintf("one change to %d watchers, %d in a round", f.watchers, f.rounds)
	w.pair(name+": events, watches set again", "events/s", f.events, "")
	w.pair(name+": to the last event, p50", "ms", f.last, "")
	w.pair(name+": to the last event, slowest", "ms", f.lastMax, "")
	w.pair(name+": to an event, p99", "ms", f.eventP99, "")
	w.pair(name+": servers' processor time", "µs/event", f.cpu, "")
	memory := "after the equal load, all servers: "
	if len(r.memory.pss[1]) > 0 {
		ratio := r.memory.pss[0].Median() / r.memory.pss[1].Median()
		w.pair(memory+"memory (PSS)", "MB", r.memory.pss, verdict(true, ratio <= memoryTarget, fmt.Sprintf("≤ %g", memoryTarget)))
	}
	w.pair(memory+"VmRSS", "MB", r.memory.rss, "")
	w.pair(memory+"highest VmRSS", "MB", r.memory.peak, "")
	w.pair("idle, all servers: processor time", "ms/s", r.idle, "")
	w.line("")
}

func (w *writer) pair(name, unit string, figures [2]measure.Figures, verdict string) {
	if len(figures[0]) == 0 || len(figures[1]) != len(figures[0]) {
		return // it was not measured to its end
	}
	w.line("| %s | %s | %s | %s | %s | %s |", name, figures[0], figures[1], unit, figures[0].Ratios(figures[1]), verdict)
}

// verdict says whether a target is met, where there is one.
func verdict(asked, met bool, target string) string {
	switch {
	case !asked:
		return "-"
	case met:
		return "met (" + target + ")"
	}
	return "**MISSED** (" + target + ")"
}
