package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// printer writes for a person or, with --json, for a machine.
type printer struct {
	w    io.Writer
	json bool
}

func newPrinter(c *cobra.Command) printer {
	asJSON, _ := c.Flags().GetBool("json")
	return printer{w: c.OutOrStdout(), json: asJSON}
}

// line writes one line for a person; machines do not see it.
func (p printer) line(text string) {
	if !p.json {
		_, _ = fmt.Fprintln(p.w, text)
	}
}

// object writes one JSON value on a line.
func (p printer) object(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	_, err = fmt.Fprintf(p.w, "%s\n", b)
	return err
}

// table writes rows in columns for a person, or each row as an object with the headings, in lower case, as names.
func (p printer) table(headings []string, rows [][]any) error {
	if p.json {
		for _, row := range rows {
			o := make(map[string]any, len(row))
			for i, cell := range row {
				o[strings.ReplaceAll(strings.ToLower(headings[i]), " ", "_")] = cell
			}
			if err := p.object(o); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, strings.Join(headings, "\t"))
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				_, _ = io.WriteString(t, "\t")
			}
			_, _ = fmt.Fprint(t, cell)
		}
		_, _ = io.WriteString(t, "\n")
	}
	return t.Flush()
}
