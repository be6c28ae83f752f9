package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lineBytesMax is the longest line that produce reads.
const lineBytesMax = 16 << 20

func produceCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "produce TOPIC [VALUE…]", Short: "Write records: the values given, or each line of standard input",
		Args:    cobra.MinimumNArgs(1),
		Example: "  cairn produce sensors 'temperature 21'\n  journalctl -f | cairn produce logs --key-separator ' '",
	}
	addBootstrap(c)
	separator := c.Flags().String("key-separator", "", "what lies between key and value of a line; none means no key")
	partition := c.Flags().Int32("partition", -1, "write to this partition alone")
	codec := c.Flags().String("compress", "none", "none, gzip, snappy, lz4 or zstd")
	c.RunE = func(c *cobra.Command, args []string) error {
		compression, err := compressionOf(*codec)
		if err != nil {
			return err
		}
		opts := []kgo.Opt{kgo.ProducerBatchCompression(compression), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(1 << 20)}
		if *partition >= 0 {
			opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		}
		client, err := kafka(c, opts...)
		if err != nil {
			return err
		}
		defer client.Close()
		p := &producing{client: client, topic: args[0], separator: []byte(*separator), partition: max(*partition, 0)}
		n, err := p.all(c.Context(), c.InOrStdin(), args[1:])
		out := newPrinter(c)
		if out.json {
			_ = out.object(map[string]any{"topic": args[0], "acknowledged": n})
		} else {
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "%d records acknowledged\n", n)
		}
		return err
	}
	return c
}

func compressionOf(name string) (kgo.CompressionCodec, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := codecs[name]
	if !ok {
		return codec, usage("--compress %q, want none, gzip, snappy, lz4 or zstd", name)
	}
	return codec, nil
}

// producing writes records and counts the acknowledged ones. The first failure ends it.
type producing struct {
	client    *kgo.Client
	topic     string
	separator []byte
	partition int32

	mu    sync.Mutex // protects acked and err; nothing is called while it is held
	acked int
	err   error
}

func (p *producing) all(ctx context.Context, in io.Reader, values []string) (int, error) {
	var readErr error
	if len(values) > 0 {
		for _, v := range values {
			p.send(ctx, []byte(v))
		}
	} else {
		readErr = p.lines(ctx, in)
	}
	flushErr := p.client.Flush(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, err := range []error{p.err, readErr, flushErr} {
		if err != nil {
			return p.acked, fmt.Errorf("produce to %s: %w", p.topic, err)
		}
	}
	return p.acked, nil
}

func (p *producing) lines(ctx context.Context, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), lineBytesMax)
	for lines.Scan() && p.failure() == nil {
		p.send(ctx, bytes.Clone(lines.Bytes()))
	}
	return lines.Err()
}

func (p *producing) send(ctx context.Context, value []byte) {
	r := &kgo.Record{Topic: p.topic, Value: value, Partition: p.partition}
	if len(p.separator) > 0 {
		if key, rest, ok := bytes.Cut(value, p.separator); ok {
			r.Key, r.Value = key, rest
		}
	}
	p.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err == nil {
			p.acked++
		} else if p.err == nil {
			p.err = err
		}
	})
}

func (p *producing) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
