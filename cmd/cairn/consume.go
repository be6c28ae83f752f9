package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

func consumeCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "consume TOPIC…", Short: "Read records and print each on a line, until interrupted or --max",
		Args:    cobra.MinimumNArgs(1),
		Example: "  cairn consume sensors --from start --max 10\n  cairn consume logs --group shipper",
	}
	addBootstrap(c)
	from := c.Flags().String("from", "end", "where to begin without committed offsets: start or end")
	group := c.Flags().String("group", "", "consume as a member of this group and commit what was printed")
	most := c.Flags().Int("max", 0, "stop after this many records")
	idle := c.Flags().Duration("idle", 0, "stop when nothing came for this long, such as 5s")
	keys := c.Flags().Bool("keys", false, "print key, tab, value")
	c.RunE = func(c *cobra.Command, topics []string) error {
		opts := []kgo.Opt{kgo.ConsumeTopics(topics...)}
		switch *from {
		case "start":
			opts = append(opts, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		case "end":
			opts = append(opts, kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
		default:
			return usage("--from %q, want start or end", *from)
		}
		if *group != "" {
			opts = append(opts, kgo.ConsumerGroup(*group), kgo.DisableAutoCommit())
		}
		client, err := kafka(c, opts...)
		if err != nil {
			return err
		}
		defer client.Close()
		ctx, cancel := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer cancel()
		r := consuming{client: client, out: newPrinter(c), most: *most, idle: *idle, keys: *keys, commit: *group != ""}
		return r.all(ctx)
	}
	return c
}

// consuming prints what a client polls.
type consuming struct {
	client *kgo.Client
	out    printer
	most   int
	idle   time.Duration
	keys   bool
	commit bool
	count  int
}

func (r *consuming) all(ctx context.Context) error {
	w := bufio.NewWriterSize(r.out.w, 64<<10)
	defer func() { _ = w.Flush() }()
	r.out.w = w
	for r.most == 0 || r.count < r.most {
		poll, cancel := ctx, context.CancelFunc(func() {})
		if r.idle > 0 {
			poll, cancel = context.WithTimeout(ctx, r.idle)
		}
		fetches := r.client.PollRecords(poll, r.room())
		cancel()
		if fetches.IsClientClosed() || ctx.Err() != nil || poll.Err() != nil && fetches.NumRecords() == 0 {
			break
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, context.Canceled) {
				return fmt.Errorf("consume %s-%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		if err := r.print(fetches); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err // nobody reads any more
		}
		if r.commit {
			if err := r.commitPrinted(ctx); err != nil {
				return fmt.Errorf("commit: %w", err)
			}
		}
	}
	return nil
}

// commitPrinted commits what was printed, also when the interrupt came meanwhile: nobody wants to read it twice.
func (r *consuming) commitPrinted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*dialTime)
	defer cancel()
	return r.client.CommitUncommittedOffsets(ctx)
}

// room is how many records the next poll may bring, so that nothing is committed that was not printed.
func (r *consuming) room() int {
	if r.most == 0 {
		return 10000
	}
	return min(r.most-r.count, 10000)
}

func (r *consuming) print(fetches kgo.Fetches) error {
	for i := fetches.RecordIter(); !i.Done(); r.count++ {
		record := i.Next()
		var err error
		switch {
		case r.out.json:
			err = r.out.object(map[string]any{"topic": record.Topic, "partition": record.Partition, "offset": record.Offset,
				"timestamp": record.Timestamp.UnixMilli(), "key": text(record.Key), "value": text(record.Value)})
		case r.keys:
			_, err = fmt.Fprintf(r.out.w, "%s\t%s\n", record.Key, record.Value)
		default:
			_, err = fmt.Fprintf(r.out.w, "%s\n", record.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text is a key or value as JSON shows it: null stays null.
func text(b []byte) any {
	if b == nil {
		return nil
	}
	return string(b)
}
