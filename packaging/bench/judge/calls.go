package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"cairn/packaging/bench/box"
	"cairn/packaging/bench/frames"
	"cairn/packaging/bench/load"
	"cairn/packaging/bench/measure"
)

const (
	flushTarget    = 0.125 // flush calls per produce request with 64 in flight
	sendfileTarget = 0.99  // of the bytes fetched
	callsLogBytes  = 64 << 20
)

var (
	flushCall    = regexp.MustCompile(`(?m)^\d+ +(fdatasync|fsync|syncfs|sync_file_range|msync)\(`)
	sendfileCall = regexp.MustCompile(`(?m)^\d+ +(?:sendfile\(|<\.\.\. sendfile resumed>).*= (\d+)$`)
)

// measureCalls runs the box under strace: how many flush calls there are for a produce request with 64 in flight, and how
// much of what is fetched leaves by sendfile. Nothing is timed here.
func measureCalls(b *bench) ([]row, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return []row{{name: "system calls", durable: "-", note: "not measured: no strace on this machine"}}, nil
	}
	dir, err := b.clear("calls")
	if err != nil {
		return nil, err
	}
	trace := filepath.Join(dir, "strace")
	cairn, err := b.newBox(dir, "strace", "-f", "-qq", "--seccomp-bpf", "-o", trace,
		"-e", "trace=fdatasync,fsync,syncfs,sync_file_range,msync,sendfile")
	if err != nil {
		return nil, err
	}
	defer endTraced(cairn)
	if err := b.start(cairn); err != nil {
		return nil, err
	}
	s := produceShapes[0]
	flushes, err := b.flushCalls(cairn, trace, s)
	if err != nil {
		return nil, err
	}
	r := row{name: fmt.Sprintf("flush calls per produce request, %v (strace)", s), unit: "calls/request", cairn: flushes, durable: "yes: fdatasync before the answer",
		note: "fdatasync, fsync, syncfs, sync_file_range and msync of the whole process, the raft log's included; strace slows the calls that it counts, which makes groups larger"}
	rows := []row{r.absolute(flushTarget)}
	own, err := b.ownFlushes(s)
	if err != nil {
		return rows, err
	}
	if len(own) > 0 {
		counted := row{name: "the same without strace, by cairn's own counters", unit: "calls/request", cairn: own, durable: "yes: fdatasync before the answer"}
		rows = append(rows, counted.absolute(flushTarget))
	}
	part, err := b.sendfilePart(cairn, trace)
	if err != nil {
		return rows, err
	}
	sent := row{name: "part of the bytes fetched by 64 KiB that leave by sendfile (strace)", unit: "bytes/byte", cairn: part, durable: "reads only"}
	sent.judged, sent.judge, sent.target, sent.atLeast = part, "bytes/byte", sendfileTarget, true
	return append(rows, sent), nil
}

// traced returns what strace has written while do ran.
func traced(trace string, do func(mark func(bool)) error) ([]byte, error) {
	var from, to int64
	var failed error
	mark := func(begin bool) {
		info, err := os.Stat(trace)
		if err != nil {
			failed = err
			return
		}
		if begin {
			from = info.Size()
		} else {
			to = info.Size()
		}
	}
	if err := do(mark); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		return nil, err
	}
	return text[from:to], nil
}

func (b *bench) flushCalls(cairn *box.Box, trace string, s shape) (measure.Figures, error) {
	var figures measure.Figures
	for i := range b.runs {
		topic := fmt.Sprintf("calls-%d", i)
		if err := b.createTopic(cairn, topic, 1); err != nil {
			return nil, err
		}
		var requests uint64
		text, err := traced(trace, func(mark func(bool)) error {
			plan := b.producePlan(cairn.Kafka, topic, s)
			plan.Measure, plan.Mark = plan.Measure/2, mark
			result, err := load.Run(b.ctx, plan)
			requests = result.Requests
			return err
		})
		if err != nil {
			return nil, err
		}
		calls := len(flushCall.FindAll(text, -1))
		if requests == 0 || calls == 0 {
			return nil, fmt.Errorf("strace has seen %d flushes for %d requests", calls, requests)
		}
		figures = append(figures, float64(calls)/float64(requests))
	}
	return figures, nil
}

// flushCounters are cairn's own counters of flush calls.
var flushCounters = []string{"cairn_syncer_flushes_total", "cairn_raftlog_flushes_total"}

// ownFlushes is flushCalls on a box without strace. It returns nothing if the box has no such counters.
func (b *bench) ownFlushes(s shape) (measure.Figures, error) {
	dir, err := b.clear("counters")
	if err != nil {
		return nil, err
	}
	cairn, err := b.startBox(dir)
	if err != nil {
		return nil, err
	}
	defer cairn.Kill()
	var figures measure.Figures
	for i := range b.runs {
		topic := fmt.Sprintf("calls-%d", i)
		if err := b.createTopic(cairn, topic, 1); err != nil {
			return nil, err
		}
		before, ok := counters(cairn)
		if !ok {
			return nil, nil
		}
		plan := b.producePlan(cairn.Kafka, topic, s)
		plan.Requests = 50000
		result, err := load.Run(b.ctx, plan)
		if err != nil {
			return nil, err
		}
		after, _ := counters(cairn)
		figures = append(figures, (after-before)/float64(result.Requests))
	}
	return figures, nil
}

// counters sums the flush counters of the box over all their labels. ok is false if there are none.
func counters(cairn *box.Box) (sum float64, ok bool) {
	page, err := cairn.Get("/metrics")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(page)) {
		for _, name := range flushCounters {
			rest, found := strings.CutPrefix(line, name)
			if !found {
				continue
			}
			words := strings.Fields(rest)
			if len(words) == 0 {
				continue
			}
			if v, err := strconv.ParseFloat(words[len(words)-1], 64); err == nil {
				sum, ok = sum+v, true
			}
		}
	}
	return sum, ok
}

func (b *bench) sendfilePart(cairn *box.Box, trace string) (measure.Figures, error) {
	batch, err := frames.BatchOfBytes(fetchBatchBytes, 1)
	if err != nil {
		return nil, err
	}
	times := callsLogBytes / len(batch)
	if err := b.fill(cairn, fetchTopic, batch, times); err != nil {
		return nil, err
	}
	var figures measure.Figures
	for range b.runs {
		var payload uint64
		text, err := traced(trace, func(mark func(bool)) error {
			result, err := load.Run(b.ctx, load.Plan{Address: cairn.Kafka, Connections: 1, Window: 1, Requests: uint64(times), Mark: mark,
				Talker: func(int) load.Talker {
					return &load.Fetcher{Request: frames.Fetch(fetchTopic, 0, fetchBatchBytes), End: int64(times)}
				}})
			payload = result.Payload
			return err
		})
		if err != nil {
			return nil, err
		}
		var sent float64
		for _, match := range sendfileCall.FindAllSubmatch(text, -1) {
			n, err := strconv.ParseFloat(string(match[1]), 64)
			if err != nil {
				return nil, err
			}
			sent += n
		}
		figures = append(figures, sent/float64(payload))
	}
	return figures, nil
}

// endTraced ends the box below strace; strace ends with it. Killing strace first would leave the box running.
func endTraced(traced *box.Box) {
	if !traced.Running() {
		return
	}
	if child, ok := childOf(traced.PID()); ok {
		_ = syscall.Kill(child, syscall.SIGKILL)
		return
	}
	traced.Kill()
}

// childOf finds the one child of a process.
func childOf(parent int) (int, bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(parent) {
			return pid, true
		}
	}
	return 0, false
}
