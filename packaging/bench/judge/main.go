package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"cairn/packaging/bench/measure"
)

// bench is what every row has in hand.
type bench struct {
	ctx   context.Context
	cairn string // binary
	floor string // binary
	dir   string // data of everything that a row starts
	short bool
	runs  int
}

// part is one group of rows that share a box.
type part struct {
	name string
	run  func(*bench) ([]row, error)
}

// parts in the order of the table. What drops the page cache comes last.
var parts = []part{
	{"produce", measureProduce},
	{"fetch", measureFetch},
	{"replicated", measureReplicated},
	{"wear", measureWear},
	{"getdata", measureGetData},
	{"size", measureSize},
	{"idle", measureIdle},
	{"start", measureStart},
	{"calls", measureCalls},
	{"recovery", measureRecovery},
}

func main() {
	b := &bench{}
	flag.StringVar(&b.cairn, "cairn", "", "cairn's binary")
	flag.StringVar(&b.floor, "floor", "", "the floor program's binary")
	flag.StringVar(&b.dir, "dir", "", "empty directory to work in, on the disk that is measured")
	flag.BoolVar(&b.short, "short", false, "2 runs instead of 6, shorter ones, and a smaller log to recover")
	only := flag.String("only", "", "parts to run, separated by commas; empty: all of "+strings.Join(names(), ","))
	flag.Parse()
	b.runs = 6
	if b.short {
		b.runs = 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b.ctx = ctx
	failed, err := b.all(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d parts failed\n", failed)
		os.Exit(1)
	}
}

func names() []string {
	var all []string
	for _, p := range parts {
		all = append(all, p.name)
	}
	return all
}

// all runs the parts and prints the table. A part that fails leaves its line in the table and does not stop the others.
func (b *bench) all(only string) (failed int, err error) {
	chosen := names()
	if only != "" {
		chosen = strings.Split(only, ",")
	}
	for _, name := range chosen {
		if !slices.Contains(names(), name) {
			return 0, fmt.Errorf("no part %q; there are %s", name, strings.Join(names(), ", "))
		}
	}
	facts := measure.Machine(b.dir)
	total, stolen := measure.Ticks()
	begin := time.Now()
	var rows []row
	for _, p := range parts {
		if !slices.Contains(chosen, p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s …\n", p.name)
		got, err := p.run(b)
		rows = append(rows, got...)
		if err != nil {
			failed++
			rows = append(rows, row{name: p.name, failed: err})
			fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
		}
		if b.ctx.Err() != nil {
			break
		}
	}
	totalEnd, stolenEnd := measure.Ticks()
	facts = append(facts,
		fmt.Sprintf("runs: %d, begun %s, took %s", b.runs, begin.UTC().Format(time.RFC3339), time.Since(begin).Round(time.Second)),
		fmt.Sprintf("processor time stolen by the hypervisor: %.2f %%", 100*float64(stolenEnd-stolen)/float64(max(totalEnd-total, 1))))
	printTable(os.Stdout, facts, rows)
	return failed, nil
}

// clear makes an empty directory for one part and returns its path.
func (b *bench) clear(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// seconds is a time of a run, halved in the short form.
func (b *bench) seconds(full float64) time.Duration {
	if b.short {
		full /= 2
	}
	return time.Duration(full * float64(time.Second))
}
