package main

import (
	"debug/elf"
	"fmt"
	"os"
	"time"

	"cairn/packaging/bench/measure"
)

const (
	idleTargetMB   = 25
	binaryTargetMB = 20
	idleTime       = 10 * time.Second
)

// measureSize: memory of a fresh box that has been idle for 10 seconds, beside an idle floor program, and the binary.
func measureSize(b *bench) ([]row, error) {
	var rss, anon, floorRSS, floorAnon measure.Figures
	for range b.runs {
		ours, beside, err := b.idle()
		if err != nil {
			return nil, err
		}
		rss, anon = append(rss, megabytes(ours.RSS)), append(anon, megabytes(ours.Anon))
		floorRSS, floorAnon = append(floorRSS, megabytes(beside.RSS)), append(floorAnon, megabytes(beside.Anon))
	}
	resident := row{name: "idle resident memory", unit: "MB", cairn: rss, floor: floorRSS, durable: "-",
		note: "VmRSS 10 s after the start of a fresh box; floor: the echo program, as long idle"}
	rows := []row{resident.absolute(idleTargetMB), {name: "of it RssAnon", unit: "MB", cairn: anon, floor: floorAnon, durable: "-"}}
	info, err := os.Stat(b.cairn)
	if err != nil {
		return rows, err
	}
	arch, stripped, err := elfFacts(b.cairn)
	if err != nil {
		return rows, err
	}
	binary := row{name: "binary, " + arch, unit: "MB", cairn: measure.Figures{megabytes(uint64(info.Size()))}, durable: "-"}.absolute(binaryTargetMB)
	if !stripped {
		binary.note = "not stripped: it has a symbol table, and the target is about a stripped one"
	}
	return append(rows, binary), nil
}

// idle starts a box and a floor and looks at both after a while of nothing.
func (b *bench) idle() (ours, beside measure.Memory, err error) {
	dir, err := b.clear("size")
	if err != nil {
		return ours, beside, err
	}
	cairn, err := b.startBox(dir)
	if err != nil {
		return ours, beside, err
	}
	defer cairn.Kill()
	floor, err := b.startFloor("echo", "-reply", "100")
	if err != nil {
		return ours, beside, err
	}
	defer floor.stop()
	select {
	case <-b.ctx.Done():
		return ours, beside, b.ctx.Err()
	case <-time.After(idleTime):
	}
	if ours, err = measure.ResidentMemory(cairn.PID()); err != nil {
		return ours, beside, err
	}
	beside, err = measure.ResidentMemory(floor.cmd.Process.Pid)
	return ours, beside, err
}

func elfFacts(path string) (arch string, stripped bool, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	return f.Machine.String(), f.Section(".symtab") == nil && f.Section(".debug_info") == nil && f.Section(".zdebug_info") == nil, nil
}

// megabytes are of 10^6 bytes, as the targets are.
func megabytes(n uint64) float64 { return float64(n) / 1e6 }
