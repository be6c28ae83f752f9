package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Reader reads one partition's log without a group and checks it record by record. It goes on where it stood, so that a
// check after each restart reads only what is new; one made anew reads everything.
type Reader struct {
	partition int32
	next      int64   // offset to read
	number    int     // of the last record, -1 before the first
	found     []int64 // by record number: its offset, or -1
}

// NewReader makes a reader that stands at the beginning.
func NewReader(partition int32) *Reader { return &Reader{partition: partition, number: -1} }

// take checks one record: offsets without a gap, numbers that grow (which means order and no duplicates), whole values, and
// nothing left out that somebody still owes.
func (r *Reader) take(record *kgo.Record, ledger *Ledger) {
	if record.Offset != r.next {
		ledger.Fault("partition %d: offset %d follows %d", r.partition, record.Offset, r.next-1)
	}
	r.next = record.Offset + 1
	number, err := readPayload(r.partition, record.Value)
	if err != nil {
		ledger.Fault("partition %d: at offset %d %v", r.partition, record.Offset, err)
		return
	}
	status, ok := ledger.Status(r.partition, number)
	switch {
	case !ok:
		ledger.Fault("partition %d: at offset %d is record %d, which was never made", r.partition, record.Offset, number)
		return
	case number <= r.number:
		ledger.Fault("partition %d: at offset %d is record %d after record %d: a duplicate, or out of order", r.partition, record.Offset, number, r.number)
		return
	case status >= 0 && status != record.Offset:
		ledger.Fault("partition %d: record %d is at offset %d, acknowledged was %d", r.partition, number, record.Offset, status)
	}
	for missing := r.number + 1; missing < number; missing++ {
		r.found = append(r.found, -1)
		if status, _ := ledger.Status(r.partition, missing); status != gaveUp {
			ledger.Fault("partition %d: record %d is missing before offset %d (its acknowledged offset: %d)", r.partition, missing, record.Offset, status)
		}
	}
	r.found = append(r.found, record.Offset)
	r.number = number
}

// settle compares, after everything was read, with every acknowledgement that the ledger has.
func (r *Reader) settle(ledger *Ledger) {
	for number, status := range ledger.Offsets(r.partition) {
		found := int64(-1)
		if number < len(r.found) {
			found = r.found[number]
		}
		switch {
		case status >= 0 && found != status:
			ledger.Fault("partition %d: record %d was acknowledged at offset %d and found at %d", r.partition, number, status, found)
		case status == inDoubt && found < 0:
			ledger.Fault("partition %d: record %d is neither acknowledged nor there", r.partition, number)
		}
	}
}

// ReadTo brings all readers to the given ends, by partition.
func ReadTo(ctx context.Context, ledger *Ledger, seeds string, readers []*Reader, ends []int64) error {
	starts := map[int32]kgo.Offset{}
	for _, r := range readers {
		if r.next < ends[r.partition] {
			starts[r.partition] = kgo.NewOffset().At(r.next)
		}
	}
	if len(starts) == 0 {
		return nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.RetryBackoffFn(quickly), kgo.MetadataMinAge(metadataAge))
	if err != nil {
		return err
	}
	defer client.Close()
	left := len(starts)
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d partitions are not read to their ends: %w", left, err)
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("read %s-%d: %w", e.Topic, e.Partition, e.Err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			r := readers[record.Partition]
			if r.next >= ends[r.partition] {
				return // beyond what was asked for: the next check reads it again
			}
			if r.take(record, ledger); r.next >= ends[r.partition] {
				left--
			}
		})
	}
	return nil
}
