package main

import (
	"context"
	"errors"
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
	"cairn/packaging/bench/table"
)

// bench is what was asked for.
type bench struct {
	ctx   context.Context
	cairn string // binary
	dir   string // data of everything that is started
	short bool
}

// part is one group of rows.
type part struct {
	name string
	run  func(*bench) ([]table.Row, error)
}

var parts = []part{
	{"million", (*bench).measureMillion},
	{"small", func(b *bench) ([]table.Row, error) { return b.measureLag(b.smallTree()) }},
	{"large", func(b *bench) ([]table.Row, error) { return b.measureLag(b.largeTree()) }},
}

// about is said of all figures.
const about = "MB and GB are powers of ten. Acknowledged writes are on stable storage, of a majority where there are three servers."

// timeMax bounds the whole run.
const timeMax = 30 * time.Minute

func main() {
	b := &bench{}
	flag.StringVar(&b.cairn, "cairn", "", "cairn's binary")
	flag.StringVar(&b.dir, "dir", "", "empty directory to work in, on the disk that is measured")
	flag.BoolVar(&b.short, "short", false, "trees of a twentieth of the size")
	only := flag.String("only", "million,small,large", "parts to run, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeMax)
	defer cancel()
	b.ctx = ctx
	if err := b.all(strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "catchup:", err)
		os.Exit(1)
	}
}

// all runs the parts and prints the table. What was measured before an error is printed too.
func (b *bench) all(chosen []string) error {
	known := func(name string) bool {
		return slices.ContainsFunc(parts, func(p part) bool { return p.name == name })
	}
	if i := slices.IndexFunc(chosen, func(name string) bool { return !known(name) }); i >= 0 {
		return fmt.Errorf("no part %q; there are million, small and large", chosen[i])
	}
	facts := measure.Machine(b.dir)
	total, stolen := measure.Ticks()
	begin := time.Now()
	var rows []table.Row
	var failed error
	for _, p := range parts {
		if !slices.Contains(chosen, p.name) {
			continue
		}
		got, err := p.run(b)
		rows = append(rows, got...)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	totalEnd, stolenEnd := measure.Ticks()
	facts = append(facts,
		fmt.Sprintf("begun %s, took %s", begin.UTC().Format(time.RFC3339), time.Since(begin).Round(time.Second)),
		fmt.Sprintf("processor time stolen by the hypervisor: %.2f %%", 100*float64(stolenEnd-stolen)/float64(max(totalEnd-total, 1))))
	return errors.Join(failed, table.Print(os.Stdout, facts, about, rows))
}

// clear makes an empty directory for one part and returns its path.
func (b *bench) clear(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().UTC().Format("15:04:05 ")+format+"\n", args...)
}
