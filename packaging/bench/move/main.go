package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"cairn/packaging/bench/measure"
	"cairn/packaging/bench/table"
)

// timeMax bounds the whole run.
const timeMax = 20 * time.Minute

// bench is what was asked for.
type bench struct {
	ctx   context.Context
	cairn string // binary
	dir   string // data of everything that is started
	short bool
	rate  int64   // throttle, bytes a second; 0: none
	moved int64   // bytes that the topic that moves has
	part  float64 // of the most, that is offered meanwhile
	warm  bool    // the page cache keeps what was written
	turns bool    // the move goes and rests in turns
}

func main() {
	b := &bench{}
	flag.StringVar(&b.cairn, "cairn", "", "cairn's binary")
	flag.StringVar(&b.dir, "dir", "", "empty directory to work in, on the disk that is measured")
	flag.BoolVar(&b.short, "short", false, "a tenth of the bytes, and shorter measurements")
	flag.Int64Var(&b.rate, "throttle", 50_000_000, "bytes a second; 0 is none")
	flag.Float64Var(&b.part, "part", 0.3, "part of the most that is offered")
	flag.BoolVar(&b.warm, "warm", false, "leave what moves in the page cache")
	flag.BoolVar(&b.turns, "turns", false, "let the move go and rest in turns, and compare the two: for a machine on which others work")
	flag.Parse()
	if b.moved = 2_000_000_000; b.short {
		b.moved /= 10
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeMax)
	defer cancel()
	b.ctx = ctx
	if err := b.all(); err != nil {
		fmt.Fprintln(os.Stderr, "move:", err)
		os.Exit(1)
	}
}

// about is said of all figures.
const about = "MB are powers of ten. acks=all; acknowledged records are on the disks of all replicas in sync (durability flushed)."

// all measures and prints the table. What was measured before an error is printed too.
func (b *bench) all() error {
	facts := measure.Machine(b.dir)
	total, stolen := measure.Ticks()
	begin := time.Now()
	rows, failed := b.measure()
	totalEnd, stolenEnd := measure.Ticks()
	facts = append(facts,
		fmt.Sprintf("begun %s, took %s", begin.UTC().Format(time.RFC3339), time.Since(begin).Round(time.Second)),
		fmt.Sprintf("processor time stolen by the hypervisor: %.2f %%", 100*float64(stolenEnd-stolen)/float64(max(totalEnd-total, 1))))
	return errors.Join(failed, table.Print(os.Stdout, facts, about, rows))
}

// seconds are fewer in the short form.
func (b *bench) seconds(n float64) time.Duration {
	if b.short {
		n /= 3
	}
	return time.Duration(n * float64(time.Second))
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().UTC().Format("15:04:05 ")+format+"\n", args...)
}
