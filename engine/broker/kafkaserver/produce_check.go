package kafkaserver

import (
	"errors"
	"fmt"
	"math"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/settings"
	"cairn/platform/clock"
)

// Refusals of a batch that have codes of their own on the Produce path.
var (
	errCompression = errors.New("zstd needs Produce version 7 or later")
	errSegment     = errors.New("batch longer than a segment")
	errTimestamp   = errors.New("timestamp out of range")
)

// zstdVersion is the first Produce version whose clients know zstd (KIP-110).
const zstdVersion = 7

// checkProduced checks what a producer sent for one partition, as far as no partition state is needed
// (ProduceRequest.validateRecords, LogValidator): exactly one whole v2 batch, its size, CRC and header, and the records
// unless they are compressed. Compressed ones are opened only for topics that say so.
func (s *Server) checkProduced(b []byte, t *catalog.Topic, version int16, now clock.Now) error {
	h, err := batch.Parse(b)
	switch {
	case errors.Is(err, batch.ErrTruncated), errors.Is(err, batch.ErrMagic):
		return fmt.Errorf("%w: not a batch of format 2: %w", batch.ErrInvalid, err)
	case err != nil:
		return err
	case h.Size() != len(b):
		return fmt.Errorf("%w: batch of %d bytes in %d: a produced partition holds exactly one", batch.ErrInvalid, h.Size(), len(b))
	}
	set := t.Settings
	codec := h.Attributes.Codec()
	if codec == batch.Zstd && version < zstdVersion {
		return errCompression
	}
	if err := h.CheckProduced(int(set.MaxMessageBytes)); err != nil {
		return err
	}
	if h.Size() > int(set.SegmentBytes) {
		return fmt.Errorf("%w: %d bytes, segment.bytes is %d", errSegment, h.Size(), set.SegmentBytes)
	}
	if err := batch.VerifyCRC(b); err != nil {
		return err
	}
	if h.Attributes.Transactional() {
		return fmt.Errorf("%w: transactions are not served", errTransaction)
	}
	if codec != batch.None && !set.ValidateCompressed {
		return s.checkTimestamps(set, h.BaseTimestamp, h.MaxTimestamp, now)
	}
	return s.checkRecords(&h, b, set, now)
}

var errTransaction = errors.New("invalid transaction state")

// checkRecords walks the records, unpacking them if they are compressed. At most a few batches are unpacked at a time.
func (s *Server) checkRecords(h *batch.Header, b []byte, set *settings.Topic, now clock.Now) error {
	records := b[batch.HeaderSize:]
	if h.Attributes.Codec() != batch.None {
		opener := <-s.openers
		defer func() { s.openers <- opener }()
		var err error
		if records, err = opener.Records(h, b, s.limits.OpenBatchBytesMax); err != nil {
			return err
		}
	}
	sum, err := batch.CheckRecords(h, records)
	if err != nil {
		return err
	}
	if set.Compact && sum.NullKeys > 0 {
		return &batch.RecordError{Index: sum.FirstNullKey,
			Err: fmt.Errorf("%w: a compacted topic takes no record without a key", batch.ErrInvalid)}
	}
	err = s.checkTimestamps(set, sum.MinTimestamp, sum.MaxTimestamp, now)
	if err == nil {
		return nil
	}
	index := 0
	_ = batch.Walk(h, records, func(r *batch.Record) error {
		ts := r.Timestamp(h)
		if compareTimestamps(set, ts, ts, now.UnixMilli()) != nil {
			return errTimestamp // the first one out of range
		}
		index++
		return nil
	})
	return &batch.RecordError{Index: index, Err: err}
}

// checkTimestamps refuses timestamps that are too far from the leader's clock, where that is known to be right: a box that booted in
// 1970 takes what its producers' clocks say.
func (s *Server) checkTimestamps(set *settings.Topic, least, greatest int64, now clock.Now) error {
	err := compareTimestamps(set, least, greatest, now.UnixMilli())
	if err != nil && s.deps.GoodClock != nil && !s.deps.GoodClock(now) {
		return nil
	}
	return err
}

// compareTimestamps compares producers' timestamps with the leader's clock (KIP-937). A topic with LogAppendTime ignores
// them, and -1, no timestamp, is always allowed.
func compareTimestamps(set *settings.Topic, least, greatest, nowMs int64) error {
	if set.TimestampType == settings.LogAppendTime {
		return nil
	}
	if least != batch.NoTimestamp && beyond(nowMs, least, set.TimestampBeforeMax) {
		return fmt.Errorf("%w: %d is more than %v before %d", errTimestamp, least, set.TimestampBeforeMax, nowMs)
	}
	if greatest != batch.NoTimestamp && beyond(greatest, nowMs, set.TimestampAfterMax) {
		return fmt.Errorf("%w: %d is more than %v after %d", errTimestamp, greatest, set.TimestampAfterMax, nowMs)
	}
	return nil
}

// beyond reports whether later is more than limit after earlier. A negative limit, or one of longer than a time.Duration
// can tell, is none.
func beyond(later, earlier int64, limit time.Duration) bool {
	if limit < 0 || limit >= math.MaxInt64/2 || later <= earlier {
		return false
	}
	d := later - earlier
	return d < 0 || d > limit.Milliseconds() // d < 0: the difference does not fit
}

// produceCode is codeOf for refusals of a batch.
func produceCode(s *Server, err error) int16 {
	switch {
	case errors.Is(err, partition.ErrOutOfOrderSequence) && s.deps.Serving != nil && !s.deps.Serving():
		// The batches in front of it may have gone to a leader that this box has not heard of: the producer is to look for that, and not
		// to believe that they are lost.
		return codeNotLeaderOrFollower
	case errors.Is(err, errCompression):
		return codeUnsupportedCompressionType
	case errors.Is(err, errSegment):
		return codeRecordListTooLarge
	case errors.Is(err, errTimestamp):
		return codeInvalidTimestamp
	case errors.Is(err, errTransaction):
		return codeInvalidTxnState
	case errors.Is(err, batch.ErrInvalid): // before ErrMagic and ErrTruncated, which it may wrap
		return codeInvalidRecord
	}
	return s.codeOf(err)
}
