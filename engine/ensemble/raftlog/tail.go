package raftlog

import (
	"errors"
	"fmt"
	"path"

	"cairn/platform/vfs"
)

// blankStep is how far ahead of the records the last segment is filled with zeros.
const blankStep = 128 << 10

// zeros is what blank writes, a piece at a time.
var zeros [16 << 10]byte

// tail is the log's own handle on the last segment, beside the library's. Through it the segment is flushed, with fdatasync
// where the library knows fsync only, and filled with zeros ahead of the records: a flush whose bytes lie within a length
// and in blocks that are durable already has no metadata to write, neither in the file system's journal nor on the card.
type tail struct {
	file vfs.File
	// blank: the file is filled with zeros from its records up to here. Zero or less than the records: it is not.
	blank int64
}

// openTail opens the last segment, which the library has made, and lets go of the one before it: the records have filled
// that one beyond its zeros. fileMu is held, or nobody else knows the log yet.
func (l *Log) openTail() (err error) {
	left := l.tail.file
	l.tail = tail{}
	if left != nil {
		if err := left.Close(); err != nil {
			return fmt.Errorf("leave a segment of the raft log: %w", err)
		}
	}
	l.tail.file, err = l.deps.FS.Open(path.Join(l.walDir, segmentName(l.segments[len(l.segments)-1].first)), vfs.ReadWrite)
	if err != nil {
		l.tail.file = nil
		return fmt.Errorf("open the last segment of the raft log: %w", err)
	}
	return nil
}

// blank fills the last segment with zeros when a write of n bytes would end behind those that are there. A long write is not
// helped: the zeros would cost more than they save. There are none behind SegmentBytes, so that a segment that is not the
// last never ends with them. A full device is no error here: the records may still find room.
func (l *Log) blank(n int) error {
	s := &l.segments[len(l.segments)-1]
	end := s.bytes + int64(n)
	if n > blankStep/8 || end <= l.tail.blank || end >= int64(l.cfg.SegmentBytes) {
		return nil
	}
	at := max(l.tail.blank, s.bytes)
	end = min(s.bytes+blankStep, int64(l.cfg.SegmentBytes))
	for at < end {
		piece := zeros[:min(int64(len(zeros)), end-at)]
		if _, err := l.tail.file.WriteAt(piece, at); errors.Is(err, vfs.ErrNoSpace) {
			return nil
		} else if err != nil {
			return fmt.Errorf("fill segment %s ahead: %w", segmentName(s.first), err)
		}
		at += int64(len(piece))
		l.tail.blank = at
	}
	return nil
}
