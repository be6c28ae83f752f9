package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"cairn/engine/broker/settings"
)

func topicCommand() *cobra.Command {
	c := &cobra.Command{Use: "topic", Short: "Create, list, describe, change and delete topics"}
	addBootstrap(c)
	group(c)
	c.AddCommand(topicCreate(), topicList(), topicDescribe(), topicAlter(), topicDelete(), topicTrim())
	return c
}

func topicCreate() *cobra.Command {
	c := &cobra.Command{
		Use: "create TOPIC…", Short: "Create topics", Args: cobra.MinimumNArgs(1),
		Example: "  cairn topic create sensors --partitions 3 --config retention.ms=86400000",
	}
	partitions := c.Flags().Int32("partitions", -1, "number of partitions; -1 is the broker's default")
	replicas := c.Flags().Int16("replicas", -1, "replication factor; -1 grows with the number of boxes")
	settings := c.Flags().StringArray("config", nil, "setting=value, repeated")
	c.RunE = func(c *cobra.Command, names []string) error {
		configs, err := assignments(*settings)
		if err != nil {
			return err
		}
		adm, err := admin(c)
		if err != nil {
			return err
		}
		defer adm.Close()
		created, err := adm.CreateTopics(c.Context(), *partitions, *replicas, configs, names...)
		if err != nil {
			return fmt.Errorf("create topics: %w", err)
		}
		out := newPrinter(c)
		var failed []error
		for _, t := range created.Sorted() {
			if t.Err != nil {
				failed = append(failed, fmt.Errorf("create topic %s: %w", t.Topic, explained(t.Err, t.ErrMessage)))
				continue
			}
			out.line(fmt.Sprintf("Created topic %s with %d partitions, %d replicas each.", t.Topic, t.NumPartitions, t.ReplicationFactor))
			if out.json {
				_ = out.object(map[string]any{"topic": t.Topic, "id": topicID(t.ID), "partitions": t.NumPartitions, "replicas": t.ReplicationFactor})
			}
		}
		return errors.Join(failed...)
	}
	return c
}

// topicID writes an id as Kafka's tools do.
func topicID(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// explained joins a protocol error with the server's own words.
func explained(err error, message string) error {
	if message == "" || strings.Contains(err.Error(), message) {
		return err
	}
	return fmt.Errorf("%w: %s", err, message)
}

func assignments(texts []string) (map[string]*string, error) {
	m := make(map[string]*string, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usage("--config %q, want setting=value", text)
		}
		m[name] = &value
	}
	return m, nil
}

func topicList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List topics", Args: cobra.NoArgs}
	internal := c.Flags().Bool("internal", false, "list Kafka's own topics too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		adm, err := admin(c)
		if err != nil {
			return err
		}
		defer adm.Close()
		topics, err := adm.ListTopicsWithInternal(c.Context())
		if err != nil {
			return fmt.Errorf("list topics: %w", err)
		}
		var rows [][]any
		for _, t := range topics.Sorted() {
			if !t.IsInternal || *internal {
				rows = append(rows, []any{t.Topic, len(t.Partitions), t.Partitions.NumReplicas()})
			}
		}
		return newPrinter(c).table([]string{"TOPIC", "PARTITIONS", "REPLICAS"}, rows)
	}
	return c
}

func topicDescribe() *cobra.Command {
	c := &cobra.Command{Use: "describe TOPIC…", Short: "Show partitions, offsets and settings", Args: cobra.MinimumNArgs(1)}
	all := c.Flags().Bool("all", false, "show all settings, not only those that were changed")
	c.RunE = func(c *cobra.Command, names []string) error {
		adm, err := admin(c)
		if err != nil {
			return err
		}
		defer adm.Close()
		topics, err := adm.ListTopics(c.Context(), names...)
		if err != nil {
			return fmt.Errorf("describe topics: %w", err)
		}
		if err := topics.Error(); err != nil {
			return fmt.Errorf("describe topics %s: %w", strings.Join(names, ", "), err)
		}
		configs, err := adm.DescribeTopicConfigs(c.Context(), names...)
		if err != nil {
			return fmt.Errorf("describe settings: %w", err)
		}
		for _, t := range topics.Sorted() {
			if err := describeTopic(c, adm, t, configs, *all); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func describeTopic(c *cobra.Command, adm *kadm.Client, t kadm.TopicDetail, configs kadm.ResourceConfigs, all bool) error {
	out := newPrinter(c)
	starts, err := adm.ListStartOffsets(c.Context(), t.Topic)
	if err != nil {
		return fmt.Errorf("read start offsets: %w", err)
	}
	ends, err := adm.ListEndOffsets(c.Context(), t.Topic)
	if err != nil {
		return fmt.Errorf("read end offsets: %w", err)
	}
	out.line(fmt.Sprintf("Topic %s, id %s", t.Topic, topicID(t.ID)))
	var rows [][]any
	for _, p := range t.Partitions.Sorted() {
		start, _ := starts.Lookup(t.Topic, p.Partition)
		end, _ := ends.Lookup(t.Topic, p.Partition)
		rows = append(rows, []any{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, start.Offset, end.Offset})
	}
	if err := out.table([]string{"PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END"}, rows); err != nil {
		return err
	}
	rows = nil
	config, err := configs.On(t.Topic, nil)
	if err != nil {
		return fmt.Errorf("settings of %s: %w", t.Topic, err)
	}
	sort.Slice(config.Configs, func(i, j int) bool { return config.Configs[i].Key < config.Configs[j].Key })
	for _, s := range config.Configs {
		if changed := s.Source.String() == "DYNAMIC_TOPIC_CONFIG"; changed || all {
			rows = append(rows, []any{s.Key, s.MaybeValue(), s.Source, effectOf(s)})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	out.line("")
	return out.table([]string{"SETTING", "VALUE", "SOURCE", "EFFECT"}, rows)
}

func topicAlter() *cobra.Command {
	c := &cobra.Command{
		Use: "alter TOPIC", Short: "Change settings or add partitions", Args: cobra.ExactArgs(1),
		Example: "  cairn topic alter sensors --config retention.ms=3600000 --partitions 6",
	}
	partitions := c.Flags().Int("partitions", 0, "grow to this many partitions")
	set := c.Flags().StringArray("config", nil, "setting=value, repeated")
	unset := c.Flags().StringArray("unset", nil, "setting to return to its default, repeated")
	c.RunE = func(c *cobra.Command, args []string) error {
		var changes []kadm.AlterConfig
		configs, err := assignments(*set)
		if err != nil {
			return err
		}
		for name, value := range configs {
			changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: value})
		}
		for _, name := range *unset {
			changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
		}
		if len(changes) == 0 && *partitions == 0 {
			return usage("nothing to change: give --config, --unset or --partitions")
		}
		adm, err := admin(c)
		if err != nil {
			return err
		}
		defer adm.Close()
		return alterTopic(c.Context(), adm, args[0], changes, *partitions)
	}
	return c
}

func alterTopic(ctx context.Context, adm *kadm.Client, topic string, changes []kadm.AlterConfig, partitions int) error {
	if len(changes) > 0 {
		responses, err := adm.AlterTopicConfigs(ctx, changes, topic)
		if err != nil {
			return fmt.Errorf("change settings of %s: %w", topic, err)
		}
		for _, r := range responses {
			if r.Err != nil {
				return fmt.Errorf("change settings of %s: %w", topic, explained(r.Err, r.ErrMessage))
			}
		}
	}
	if partitions == 0 {
		return nil
	}
	responses, err := adm.UpdatePartitions(ctx, partitions, topic)
	if err != nil {
		return fmt.Errorf("add partitions to %s: %w", topic, err)
	}
	for _, r := range responses.Sorted() {
		if r.Err != nil {
			return fmt.Errorf("add partitions to %s: %w", topic, explained(r.Err, r.ErrMessage))
		}
	}
	return nil
}

func topicDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete TOPIC…", Short: "Delete topics and all of their records", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			adm, err := admin(c)
			if err != nil {
				return err
			}
			defer adm.Close()
			deleted, err := adm.DeleteTopics(c.Context(), names...)
			if err != nil {
				return fmt.Errorf("delete topics: %w", err)
			}
			var failed []error
			for _, t := range deleted.Sorted() {
				if t.Err != nil {
					failed = append(failed, fmt.Errorf("delete topic %s: %w", t.Topic, explained(t.Err, t.ErrMessage)))
				}
			}
			return errors.Join(failed...)
		},
	}
}

func topicTrim() *cobra.Command {
	c := &cobra.Command{Use: "trim TOPIC", Short: "Delete the records of one partition before an offset", Args: cobra.ExactArgs(1)}
	partition := c.Flags().Int32("partition", 0, "partition")
	before := c.Flags().Int64("before", -1, "first offset to keep; -1 deletes all that is acknowledged")
	c.RunE = func(c *cobra.Command, args []string) error {
		adm, err := admin(c)
		if err != nil {
			return err
		}
		defer adm.Close()
		var offsets kadm.Offsets
		offsets.AddOffset(args[0], *partition, *before, -1)
		responses, err := adm.DeleteRecords(c.Context(), offsets)
		if err != nil {
			return fmt.Errorf("trim %s: %w", args[0], err)
		}
		out := newPrinter(c)
		for _, r := range responses.Sorted() {
			if r.Err != nil {
				return fmt.Errorf("trim %s-%d: %w", r.Topic, r.Partition, r.Err)
			}
			out.line(fmt.Sprintf("%s-%d starts at offset %d now.", r.Topic, r.Partition, r.LowWatermark))
			if out.json {
				_ = out.object(map[string]any{"topic": r.Topic, "partition": r.Partition, "start": r.LowWatermark})
			}
		}
		return nil
	}
	return c
}

// effectOf says what a setting does in cairn, from the registry that the server uses as well.
func effectOf(s kadm.Config) string {
	if d, ok := settings.TopicDefinition(s.Key); ok && d.Effect == settings.NoEffect {
		return "none yet"
	}
	return "yes"
}
