// Command reader reads a topic as a member of a franz-go consumer group and writes each record's value as a line. The
// conformance suite compares what it wrote with what was produced.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	bootstrap := flag.String("bootstrap", "127.0.0.1:9092", "address of a broker")
	topic := flag.String("topic", "", "topic to read")
	group := flag.String("group", "", "consumer group to join")
	lines := flag.Int("lines", 0, "how many records to read")
	patience := flag.Duration("patience", 2*time.Minute, "how long to wait for all of them")
	flag.Parse()
	if err := read(*bootstrap, *topic, *group, *lines, *patience); err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

func read(bootstrap, topic, group string, lines int, patience time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	for n := 0; n < lines; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("after %d of %d records: %w", n, lines, err)
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("after %d of %d records: %s-%d: %w", n, lines, e.Topic, e.Partition, e.Err)
		}
		for i := fetches.RecordIter(); !i.Done(); n++ {
			_, _ = out.Write(i.Next().Value)
			_ = out.WriteByte('\n')
		}
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return out.Flush()
}
