// Package table prints what a bench has measured: the facts of the machine, and a row for each figure with what was asked of it.
package table

import (
	"fmt"
	"io"

	"cairn/packaging/bench/measure"
)

// Row is one figure.
type Row struct {
	Name    string
	Value   float64
	Unit    string
	Target  float64
	Promise Promise // what is asked of the figure; the zero value is nothing
	Note    string
}

// Promise is what is asked of a figure.
type Promise uint8

const (
	none    Promise = iota
	AtMost          // the figure is at most the target
	AtLeast         // the figure is at least the target
	Exactly         // the figure is the target
)

func (r Row) verdict() string {
	sign, met := "≤", r.Value <= r.Target
	switch r.Promise {
	case none:
		return "-"
	case AtLeast:
		sign, met = "≥", r.Value >= r.Target
	case Exactly:
		sign, met = "=", r.Value == r.Target
	}
	goal := fmt.Sprintf("%s %s %s", sign, measure.Number(r.Target), r.Unit)
	if met {
		return "met (" + goal + ")"
	}
	return "**MISSED** (" + goal + ")"
}

// Print writes the facts as a list, a sentence about all figures, and the rows as a table.
func Print(out io.Writer, facts []string, about string, rows []Row) (err error) {
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format+"\n", args...)
		}
	}
	for _, fact := range facts {
		line("- %s", fact)
	}
	line("\n%s\n", about)
	line("| what | cairn | unit | verdict | note |")
	line("|---|---|---|---|---|")
	for _, r := range rows {
		line("| %s | %s | %s | %s | %s |", r.Name, measure.Number(r.Value), r.Unit, r.verdict(), r.Note)
	}
	return err
}
