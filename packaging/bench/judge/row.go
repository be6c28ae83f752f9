package main

import (
	"fmt"
	"io"
	"strings"

	"cairn/packaging/bench/measure"
)

// row is one line of the table.
type row struct {
	name    string
	unit    string          // of cairn's and the floor's figures
	cairn   measure.Figures // one for each run
	floor   measure.Figures // beside it; empty if there is no floor
	judged  measure.Figures // what the target is about; empty: a row without target
	target  float64
	atLeast bool   // judged must be at least the target, else at most
	judge   string // what judged is: "ratio", or its unit
	durable string // what holds of acknowledged data, on both sides
	note    string
	failed  error
}

// ratio makes the row about cairn's figures divided by the floor's.
func (r row) ratio(target float64, atLeast bool) row {
	r.judged, r.judge, r.target, r.atLeast = r.cairn.Ratios(r.floor), "ratio", target, atLeast
	return r
}

// absolute makes the row about cairn's own figures, which must be at most the target.
func (r row) absolute(target float64) row {
	r.judged, r.judge, r.target = r.cairn, r.unit, target
	return r
}

// verdict compares the median with the target.
func (r row) verdict() string {
	if len(r.judged) == 0 {
		return "-"
	}
	median := r.judged.Median()
	if r.atLeast && median >= r.target || !r.atLeast && median <= r.target {
		return "met"
	}
	return fmt.Sprintf("**MISSED** (%s, target %s)", measure.Number(median), r.goal())
}

func (r row) goal() string {
	if len(r.judged) == 0 {
		return "-"
	}
	sign := "≤"
	if r.atLeast {
		sign = "≥"
	}
	if r.judge == "ratio" {
		return fmt.Sprintf("ratio %s %s", sign, measure.Number(r.target))
	}
	return fmt.Sprintf("%s %s %s", sign, measure.Number(r.target), r.judge)
}

// printTable writes the facts as a list, the rows as a table, and the notes below it.
func printTable(out io.Writer, facts []string, rows []row) {
	for _, fact := range facts {
		fmt.Fprintln(out, "- "+fact)
	}
	fmt.Fprint(out, "\nEach figure: median (min–max) of the runs, cairn and floor in turn; ratio: run by run.\n\n")
	fmt.Fprintln(out, "| what | cairn | floor | unit | ratio | target | verdict | durability |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		if r.failed != nil {
			fmt.Fprintf(out, "| %s | FAILED: %s | | | | | | |\n", r.name, cell(r.failed.Error()))
			continue
		}
		ratio := "-"
		if len(r.floor) > 0 {
			ratio = r.cairn.Ratios(r.floor).String()
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s | %s |\n",
			r.name, r.cairn.String(), r.floor.String(), r.unit, ratio, r.goal(), r.verdict(), r.durable)
	}
	fmt.Fprintln(out)
	for _, r := range rows {
		if r.note != "" {
			fmt.Fprintf(out, "- %s: %s\n", r.name, r.note)
		}
	}
}

// cell keeps a text in one cell.
func cell(text string) string {
	return strings.NewReplacer("|", "/", "\n", " ").Replace(text)
}
