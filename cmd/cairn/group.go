package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func groupCommand() *cobra.Command {
	c := &cobra.Command{Use: "group", Short: "List, describe, reset and delete consumer groups"}
	addBootstrap(c)
	group(c)
	c.AddCommand(groupList(), groupDescribe(), groupReset(), groupDelete())
	return c
}

func groupList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List consumer groups", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			adm, err := admin(c)
			if err != nil {
				return err
			}
			defer adm.Close()
			groups, err := adm.ListGroups(c.Context())
			if err != nil {
				return fmt.Errorf("list groups: %w", err)
			}
			var rows [][]any
			for _, g := range groups.Sorted() {
				rows = append(rows, []any{g.Group, g.State, g.ProtocolType})
			}
			return newPrinter(c).table([]string{"GROUP", "STATE", "PROTOCOL"}, rows)
		},
	}
}

func groupDescribe() *cobra.Command {
	return &cobra.Command{
		Use: "describe GROUP…", Short: "Show members, offsets and lag", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			adm, err := admin(c)
			if err != nil {
				return err
			}
			defer adm.Close()
			lags, err := adm.Lag(c.Context(), names...)
			if err != nil {
				return fmt.Errorf("describe groups: %w", err)
			}
			for _, g := range lags.Sorted() {
				if err := g.Error(); err != nil {
					return fmt.Errorf("describe group %s: %w", g.Group, err)
				}
				if err := describeGroup(newPrinter(c), g); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func describeGroup(out printer, g kadm.DescribedGroupLag) error {
	if g.State == "Dead" {
		return fmt.Errorf("there is no group %s", g.Group)
	}
	out.line(fmt.Sprintf("Group %s: %s, %d members, lag %d", g.Group, g.State, len(g.Members), g.Lag.Total()))
	var rows [][]any
	for _, l := range g.Lag.Sorted() {
		member, host := "-", "-"
		if l.Member != nil {
			member, host = l.Member.MemberID, l.Member.ClientHost
		}
		rows = append(rows, []any{g.Group, l.Topic, l.Partition, l.Commit.At, l.End.Offset, l.Lag, member, host})
	}
	return out.table([]string{"GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"}, rows)
}

func groupReset() *cobra.Command {
	c := &cobra.Command{
		Use: "reset GROUP", Short: "Set the committed offsets of a group that has no members", Args: cobra.ExactArgs(1),
		Example: "  cairn group reset readers --topic sensors --to start",
	}
	topic := c.Flags().String("topic", "", "topic to reset")
	to := c.Flags().String("to", "", "start or end")
	offset := c.Flags().Int64("offset", -1, "this offset in every partition")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *topic == "" || (*to == "") == (*offset < 0) {
			return usage("give --topic, and one of --to start, --to end and --offset N")
		}
		adm, err := admin(c)
		if err != nil {
			return err
		}
		defer adm.Close()
		var listed kadm.ListedOffsets
		switch *to {
		case "start":
			listed, err = adm.ListStartOffsets(c.Context(), *topic)
		case "end", "":
			listed, err = adm.ListEndOffsets(c.Context(), *topic)
		default:
			return usage("--to %q, want start or end", *to)
		}
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return fmt.Errorf("read the offsets of %s: %w", *topic, err)
		}
		offsets := listed.Offsets()
		if *to == "" {
			offsets = make(kadm.Offsets)
			listed.Each(func(l kadm.ListedOffset) { offsets.AddOffset(l.Topic, l.Partition, *offset, -1) })
		}
		if err := adm.CommitAllOffsets(c.Context(), args[0], offsets); err != nil {
			return fmt.Errorf("commit for group %s: %w", args[0], err)
		}
		var rows [][]any
		for _, o := range offsets.Sorted() {
			rows = append(rows, []any{args[0], o.Topic, o.Partition, o.At})
		}
		return newPrinter(c).table([]string{"GROUP", "TOPIC", "PARTITION", "COMMITTED"}, rows)
	}
	return c
}

func groupDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete GROUP…", Short: "Delete groups and their offsets", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			adm, err := admin(c)
			if err != nil {
				return err
			}
			defer adm.Close()
			deleted, err := adm.DeleteGroups(c.Context(), names...)
			if err != nil {
				return fmt.Errorf("delete groups: %w", err)
			}
			var failed []error
			for _, g := range deleted.Sorted() {
				if g.Err != nil {
					failed = append(failed, fmt.Errorf("delete group %s: %w", g.Group, g.Err))
				}
			}
			return errors.Join(failed...)
		},
	}
}
