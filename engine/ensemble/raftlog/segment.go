package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"cairn/platform/vfs"
)

// The library's names: twenty digits of the first sequence, and two endings that a truncation of its own would leave.
const (
	segmentDigits = 20
	startSuffix   = ".START"
	endSuffix     = ".END"
	tempSuffix    = ".TEMP"
	// segmentBytesMax bounds what one file may ask of memory while it is validated.
	segmentBytesMax = 256 << 20
)

// segment is one validated file of the log.
type segment struct {
	first uint64 // sequence of its first record
	count uint64 // records in it
	bytes int64
	// indexMax is the highest raft index of an entry in it; zero when it holds none.
	indexMax uint64
}

func (s *segment) next() uint64 { return s.first + s.count }

func segmentName(first uint64) string { return fmt.Sprintf("%0*d", segmentDigits, first) }

// listing is what a directory holds, by the library's naming.
type listing struct {
	segments    []uint64 // ascending
	starts      []string
	ends        []string
	temps       []string
	sizes       map[string]int64
	firstOfName map[string]uint64
}

func list(fs vfs.FS, dir string) (listing, error) {
	l := listing{sizes: make(map[string]int64), firstOfName: make(map[string]uint64)}
	infos, err := fs.List(dir)
	if err != nil {
		return l, fmt.Errorf("list the raft log: %w", err)
	}
	for _, info := range infos {
		if info.IsDir || len(info.Name) < segmentDigits {
			continue
		}
		first, err := strconv.ParseUint(info.Name[:segmentDigits], 10, 64)
		if err != nil || first == 0 {
			continue
		}
		l.sizes[info.Name], l.firstOfName[info.Name] = info.Size, first
		switch rest := info.Name[segmentDigits:]; {
		case rest == "":
			l.segments = append(l.segments, first) // List sorts by name, and the names have one length
		case rest == startSuffix:
			l.starts = append(l.starts, info.Name)
		case rest == endSuffix:
			l.ends = append(l.ends, info.Name)
		case strings.HasSuffix(rest, tempSuffix):
			l.temps = append(l.temps, info.Name)
		}
	}
	return l, nil
}

// tidy finishes what an interrupted truncation left behind. This package never truncates through the library, but a
// directory may have been handled by something that did. A START file replaces everything before it, an END file
// everything after it; both at once contradict each other, and neither is believed before all its records are valid.
func tidy(fs vfs.FS, dir string) error {
	l, err := list(fs, dir)
	if err != nil {
		return err
	}
	if len(l.starts)+len(l.ends) > 1 {
		names := append(append([]string{}, l.starts...), l.ends...)
		return &CorruptError{Dir: dir, File: names[0], Position: -1,
			Reason: "left over from an interrupted truncation together with " + strings.Join(names[1:], ", ")}
	}
	changed := false
	remove := func(name string) error {
		changed = true
		return fs.Remove(path.Join(dir, name))
	}
	for _, name := range l.temps {
		if err := remove(name); err != nil {
			return fmt.Errorf("remove an unfinished file of the raft log: %w", err)
		}
	}
	for _, name := range append(append([]string{}, l.starts...), l.ends...) {
		first := l.firstOfName[name]
		if _, err := validate(fs, dir, name, first, false, nil); err != nil {
			return err
		}
		isStart := strings.HasSuffix(name, startSuffix)
		for _, other := range l.segments {
			if isStart && other < first || !isStart && other > first {
				if err := remove(segmentName(other)); err != nil {
					return fmt.Errorf("remove a truncated segment of the raft log: %w", err)
				}
			}
		}
		if err := fs.Rename(path.Join(dir, name), path.Join(dir, segmentName(first))); err != nil {
			return fmt.Errorf("finish a truncation of the raft log: %w", err)
		}
		changed = true
	}
	if !changed {
		return nil
	}
	if err := fs.SyncDir(dir); err != nil {
		return fmt.Errorf("flush the raft log's directory: %w", err)
	}
	return nil
}

// Cut says what a repair took away from the tail.
type Cut struct {
	File  string // empty: nothing was cut
	At    int64  // the file's length afterwards
	Bytes int64  // how many bytes were taken away, without the zeros at the end
	// Reason is why the first of them was not a record.
	Reason string
}

// scanned is a validated segment.
type scanned struct {
	segment
	cut Cut
	// loose: the file goes on behind the records, with zeros or with what cut tells of.
	loose bool
}

// validate reads one segment, checks every record and hands it to visit (payloads alias the file's bytes). In the last
// segment nothing but zeros behind the records is what it was filled with ahead of them, and otherwise the tail may be cut:
// at the first bad record, and only if no record that follows proves that the bad one had been durable. The file itself is
// not touched.
func validate(fs vfs.FS, dir, name string, first uint64, last bool, visit func(frame) error) (scanned, error) {
	b, err := readFile(fs, dir, name)
	if err != nil {
		return scanned{}, err
	}
	s := scanned{segment: segment{first: first}}
	size := len(b)
	if last {
		size = len(bytes.TrimRight(b, "\x00"))
	}
	position := 0
	for position < size {
		f, n, err := decodeRecord(b[position:])
		if err == nil && f.seq != s.next() {
			err = fmt.Errorf("sequence %d where %d is due", f.seq, s.next())
		}
		if err != nil {
			bad := &CorruptError{Dir: dir, File: name, Position: int64(position), Reason: err.Error()}
			if !last {
				bad.Reason += "; more of the log follows in the next segment"
				return scanned{}, bad
			}
			if at := provenAfter(b[position:], s.next()); at >= 0 {
				bad.Reason += fmt.Sprintf("; the record at byte %d proves that this one had been flushed", position+at)
				return scanned{}, bad
			}
			s.cut = Cut{File: name, At: int64(position), Bytes: int64(size - position), Reason: err.Error()}
			break
		}
		if visit != nil {
			if err := visit(f); err != nil {
				return scanned{}, &CorruptError{Dir: dir, File: name, Position: int64(position), Reason: err.Error()}
			}
		}
		if f.kind == kindEntry {
			s.indexMax = max(s.indexMax, f.index)
		}
		s.count++
		position += n
	}
	s.bytes, s.loose = int64(position), position < len(b)
	if zeros := len(b) - size; last && s.cut.File == "" && zeros > blankStep {
		s.cut = Cut{File: name, At: s.bytes, Reason: fmt.Sprintf("%d bytes of zeros, more than it is filled with ahead: records have not come to the disk", zeros)}
	}
	return s, nil
}

// decodeRecord reads one record of the library: the length of the frame as a varint, then the frame.
func decodeRecord(b []byte) (frame, int, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return frame{}, 0, errors.New("a record that does not end")
	}
	f, err := decodeFrame(b[n : n+int(size)])
	if err == nil && headerBytes+len(f.payload) != int(size) {
		err = fmt.Errorf("a record of %d bytes holds a frame of %d", size, headerBytes+len(f.payload))
	}
	return f, n + int(size), err
}

// provenAfter looks for a valid frame anywhere in b which shows that the record of sequence bad, at the start of b, had
// been flushed: writes follow one another only after a flush, so a frame of a later write vouches for all earlier ones.
// A frame of the same write proves nothing: the device may have kept a later page and lost an earlier one. It returns
// the frame's position, or -1. The sequence is looked at before the checksum, so that the search is linear in practice.
func provenAfter(b []byte, bad uint64) int {
	for i := range b {
		if b[i] != frameMagic || len(b)-i < headerBytes {
			continue
		}
		seq := binary.BigEndian.Uint64(b[i+16:])
		if seq <= bad || seq-bad > uint64(len(b)) {
			continue
		}
		if f, err := decodeFrame(b[i:]); err == nil && f.batchFirst() > bad {
			return i
		}
	}
	return -1
}

func readFile(fs vfs.FS, dir, name string) (b []byte, err error) {
	f, err := fs.Open(path.Join(dir, name), vfs.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open a segment of the raft log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path.Join(dir, name), err)
	}
	if size > segmentBytesMax {
		return nil, &CorruptError{Dir: dir, File: name, Position: -1, Reason: fmt.Sprintf("a segment of %d bytes", size)}
	}
	b = make([]byte, size)
	if n, err := f.ReadAt(b, 0); err != nil && (!errors.Is(err, io.EOF) || int64(n) != size) {
		return nil, fmt.Errorf("read %s: %w", path.Join(dir, name), err)
	}
	return b, nil
}

// shorten cuts off what follows a segment's records and makes the cut durable before anything is appended behind it.
func shorten(fs vfs.FS, dir string, s *segment) (err error) {
	name := path.Join(dir, segmentName(s.first))
	f, err := fs.Open(name, vfs.ReadWrite)
	if err != nil {
		return fmt.Errorf("cut the raft log's tail: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(s.bytes); err != nil {
		return fmt.Errorf("cut %s to %d bytes: %w", name, s.bytes, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush %s after cutting it: %w", name, err)
	}
	return nil
}
