package limits

import "fmt"

// Storage are the maxima of the partition logs.
type Storage struct {
	// OpenFilesMax is how many segment and index files may be open at a time; the least recently used are closed.
	OpenFilesMax int
	// DirtyBytesMax is how much log a log directory may hold beyond its recovery points: what a start after a crash reads
	// again, in bytes. A checkpoint is asked for at this size.
	DirtyBytesMax int64
	// ReserveBytes of the device are kept free of appends, so that checkpoints can be written and segments deleted when
	// the logs are full. On small devices it is at most 1/64 of the device.
	ReserveBytes int64
	// OpenBatchBytesMax bounds what one compressed batch may unpack to where it must be opened, in bytes.
	OpenBatchBytesMax int
	// SegmentsMax is how many segments one partition may have; the log refuses appends beyond it.
	SegmentsMax int
	// AbortedMax is how many aborted transactions one look-up returns.
	AbortedMax int
	// ProducerStateBytesMax bounds one stored producer-state blob, in bytes.
	ProducerStateBytesMax int
	// PartitionsMax is how many partitions this box holds, and how many the cluster may have while one box could have to.
	PartitionsMax int
	// ProducersMax is how many producer ids one partition remembers; the longest silent go first.
	ProducersMax int
	// ShardQueueMax is how many messages may wait at one shard of partitions.
	ShardQueueMax int
	// StageBytesMax is how many bytes of neighbouring appends are gathered into one write.
	StageBytesMax int
	// CompactMapBytesMax bounds the map of keys of one compaction, of which each log directory runs one at a time, in bytes; 24 make
	// a key. A smaller map compacts the same log in more passes.
	CompactMapBytesMax int64
	// WaitersMax is how many long polls may wait at one partition.
	WaitersMax int
}

func deriveStorage(memory uint64) Storage {
	return Storage{
		OpenFilesMax:          int(clamp(memory/(256<<10), 128, 8192)),
		DirtyBytesMax:         64 << 20,
		ReserveBytes:          64 << 20,
		OpenBatchBytesMax:     int(clamp(memory/8, 8<<20, 256<<20)),
		SegmentsMax:           1 << 16,
		AbortedMax:            100_000,
		ProducerStateBytesMax: int(clamp(memory/16, 4<<20, 64<<20)),
		PartitionsMax:         int(clamp(memory/(40<<10), 1000, 100_000)),
		ProducersMax:          int(clamp(memory/(64<<10), 1000, 50_000)),
		ShardQueueMax:         int(clamp(memory/(64<<10), 1024, 16384)),
		StageBytesMax:         256 << 10,
		CompactMapBytesMax:    int64(clamp(memory/32, 1<<20, 128<<20)),
		WaitersMax:            int(clamp(memory/(64<<10), 1024, 20_000)),
	}
}

func (s Storage) check(memory uint64) error {
	switch {
	case s.OpenFilesMax < 16:
		return fmt.Errorf("%d open segment files are too few", s.OpenFilesMax)
	case s.DirtyBytesMax < 1<<20:
		return fmt.Errorf("a recovery point every %d bytes wears the device out", s.DirtyBytesMax)
	case s.ReserveBytes < 0:
		return fmt.Errorf("reserve of %d bytes", s.ReserveBytes)
	case uint64(s.OpenBatchBytesMax) > memory/2:
		return fmt.Errorf("one opened batch of %d bytes may fill the memory", s.OpenBatchBytesMax)
	case uint64(s.ProducerStateBytesMax) > memory/2:
		return fmt.Errorf("one producer-state snapshot of %d bytes may fill the memory", s.ProducerStateBytesMax)
	case s.PartitionsMax < 1 || s.ProducersMax < 5 || s.ShardQueueMax < 64 || s.WaitersMax < 1:
		return fmt.Errorf("%d partitions, %d producers, %d queued messages, %d waiters are too few", s.PartitionsMax, s.ProducersMax, s.ShardQueueMax, s.WaitersMax)
	case s.CompactMapBytesMax < 64<<10 || uint64(s.CompactMapBytesMax) > memory/4:
		return fmt.Errorf("%d bytes for the keys of a compaction are too few, or may fill the memory", s.CompactMapBytesMax)
	case s.SegmentsMax < 2 || s.AbortedMax < 1:
		return fmt.Errorf("%d segments, %d aborted transactions are too few", s.SegmentsMax, s.AbortedMax)
	}
	return nil
}
