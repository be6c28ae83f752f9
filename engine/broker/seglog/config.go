package seglog

import (
	"fmt"
	"math"
	"time"
)

// Config are the settings of one partition's log. The names of Kafka's topic settings are given with each.
type Config struct {
	// SegmentBytes (segment.bytes) is the size in bytes at which a segment is closed and a new one begun.
	SegmentBytes int64
	// SegmentAge (segment.ms) closes a segment at the next append when its first record is that old. 0 means never.
	SegmentAge time.Duration
	// SegmentJitter (segment.jitter.ms) is taken off SegmentAge, a random part of it for each segment, so that the
	// partitions of a topic do not all roll at once.
	SegmentJitter time.Duration
	// IndexBytes (segment.index.bytes) is the size in bytes at which a full index closes its segment.
	IndexBytes int64
	// IndexInterval (index.interval.bytes) is the least number of log bytes between two index entries.
	IndexInterval int
	// PreallocateStep is how many bytes at a time are reserved beyond the end of the active segment; 0 reserves none.
	PreallocateStep int64
	// DeleteOld (cleanup.policy has delete) lets retention and the device's budget remove segments.
	DeleteOld bool
	// Retention (retention.ms) is the age at which a segment is removed; negative means never.
	Retention time.Duration
	// RetentionBytes (retention.bytes) is the size in bytes beyond which oldest segments are removed; negative means never.
	RetentionBytes int64
	// RefuseWhenFull (cairn.full=refuse) keeps the device's budget from removing this log's segments.
	RefuseWhenFull bool
	// UnflushedBytesMax is how much may be appended before the log asks for a flush by itself. It bounds what a start
	// after a crash has to read on topics whose producers do not wait for flushes.
	UnflushedBytesMax int64
}

// DefaultConfig is Kafka's defaults, and ours where Kafka has none.
func DefaultConfig() Config {
	return Config{
		SegmentBytes:      1 << 30,
		SegmentAge:        7 * 24 * time.Hour,
		IndexBytes:        10 << 20,
		IndexInterval:     4096,
		PreallocateStep:   4 << 20,
		DeleteOld:         true,
		Retention:         7 * 24 * time.Hour,
		RetentionBytes:    -1,
		UnflushedBytesMax: 16 << 20,
	}
}

// Validate reports the first setting that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.SegmentBytes < 1 || c.SegmentBytes > math.MaxInt32:
		return fmt.Errorf("segment.bytes %d is not in 1..%d", c.SegmentBytes, math.MaxInt32)
	case c.IndexBytes < timeEntrySize:
		return fmt.Errorf("segment.index.bytes %d is less than one entry of %d", c.IndexBytes, timeEntrySize)
	case c.IndexInterval < 0:
		return fmt.Errorf("index.interval.bytes %d is negative", c.IndexInterval)
	case c.SegmentAge < 0 || c.SegmentJitter < 0:
		return fmt.Errorf("segment.ms %v with jitter %v is negative", c.SegmentAge, c.SegmentJitter)
	case c.PreallocateStep < 0:
		return fmt.Errorf("preallocation step %d is negative", c.PreallocateStep)
	case c.UnflushedBytesMax < 1:
		return fmt.Errorf("unflushed bytes %d is less than 1", c.UnflushedBytesMax)
	}
	return nil
}
