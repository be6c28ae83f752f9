package main

import (
	"fmt"
	"io"

	"cairn/packaging/bench/measure"
)

// row is one figure.
type row struct {
	name    string
	value   float64
	unit    string
	target  float64
	promise promise
	note    string
}

// promise is what is asked of a figure.
type promise uint8

const (
	none    promise = iota
	atMost          // the figure is at most the target
	atLeast         // the figure is at least the target
	exactly         // the figure is the target
)

func (r row) verdict() string {
	sign, met := "≤", r.value <= r.target
	switch r.promise {
	case none:
		return "-"
	case atLeast:
		sign, met = "≥", r.value >= r.target
	case exactly:
		sign, met = "=", r.value == r.target
	}
	goal := fmt.Sprintf("%s %s %s", sign, measure.Number(r.target), r.unit)
	if met {
		return "met (" + goal + ")"
	}
	return "**MISSED** (" + goal + ")"
}

// printTable writes the facts as a list and the rows as a table.
func printTable(out io.Writer, facts []string, rows []row) (err error) {
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(out, format+"\n", args...)
		}
	}
	for _, fact := range facts {
		line("- %s", fact)
	}
	line("\nMB and GB are powers of ten. Acknowledged writes are on stable storage, of a majority where there are three servers.\n")
	line("| what | cairn | unit | verdict | note |")
	line("|---|---|---|---|---|")
	for _, r := range rows {
		line("| %s | %s | %s | %s | %s |", r.name, measure.Number(r.value), r.unit, r.verdict(), r.note)
	}
	return err
}
