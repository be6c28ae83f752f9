package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cairn/engine/broker/controller"
)

func clusterRebalance() *cobra.Command {
	c := &cobra.Command{Use: "rebalance", Short: "Look at what moves between boxes by itself, and pause it"}
	group(c)
	c.AddCommand(rebalanceStatus(),
		rebalanceControl("pause", "Begin no more moves; those under way go on to their end", "paused: nothing new is moved"),
		rebalanceControl("resume", "Let replicas and leaders move again", "replicas and leaders move by themselves"))
	return c
}

func rebalanceControl(name, short, said string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := consoleCall(c, http.MethodPost, "/rebalance/"+name, []byte("{}"), nil); err != nil {
				return err
			}
			newPrinter(c).line(said)
			return nil
		},
	}
}

func rebalanceStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say which partitions move, which should, and why they do not", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var got controller.RebalanceStatus
			if err := consoleCall(c, http.MethodGet, "/rebalance", nil, &got); err != nil {
				return err
			}
			out := newPrinter(c)
			if out.json {
				return out.object(got)
			}
			return printRebalance(out, got)
		},
	}
}

func printRebalance(out printer, got controller.RebalanceStatus) error {
	state := "replicas and leaders move by themselves"
	if got.Paused {
		state = "paused: nothing new is moved"
	}
	out.line(fmt.Sprintf("%s; %d partitions move, at most %d at a time; %d more should", state, got.Moving, got.MovesMax, got.Waiting))
	if len(got.Absent) > 0 {
		var rows [][]any
		for _, a := range got.Absent {
			what := fmt.Sprintf("box %d", a.Broker)
			if a.Directory != "" {
				what = fmt.Sprintf("disk %s of box %d", a.Directory, a.Broker)
			}
			replaced := "in " + (time.Duration(a.LeftSeconds) * time.Second).String()
			if a.LeftSeconds == 0 {
				replaced = "now"
			}
			rows = append(rows, []any{what, (time.Duration(a.AwaySeconds) * time.Second).String(), replaced})
		}
		if err := out.table([]string{"AWAY", "FOR", "REPLACED"}, rows); err != nil {
			return err
		}
	}
	if len(got.Moves) > 0 {
		var rows [][]any
		for _, m := range got.Moves {
			rows = append(rows, []any{partitionName(m.Topic, m.Partition), numbers(m.Replicas), numbers(m.Adding), numbers(m.Removing), numbers(m.InSync)})
		}
		if err := out.table([]string{"MOVES", "REPLICAS", "ADDING", "REMOVING", "IN SYNC"}, rows); err != nil {
			return err
		}
	}
	if len(got.Wanted) > 0 {
		var rows [][]any
		for _, m := range got.Wanted {
			rows = append(rows, []any{partitionName(m.Topic, m.Partition), numbers(m.Replicas), m.Want, numbers(m.Lost), m.Why})
		}
		if err := out.table([]string{"SHOULD MOVE", "REPLICAS", "WANTED", "LOST ON", "WHY NOT NOW"}, rows); err != nil {
			return err
		}
	}
	for _, cut := range []struct{ shown, all int }{{len(got.Moves), got.Moving}, {len(got.Wanted), got.Waiting}} {
		if cut.all > cut.shown {
			out.line(fmt.Sprintf("%d more are not shown", cut.all-cut.shown))
		}
	}
	return nil
}

func partitionName(topic string, partition int32) string {
	return fmt.Sprintf("%s-%d", topic, partition)
}

// numbers are boxes, or a dash for none.
func numbers(list []int32) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
}
