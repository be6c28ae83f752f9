package seglog

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"cairn/platform/vfs"
)

// checkpointSizeMax bounds what is read of a checkpoint file, in bytes: a million partitions.
const checkpointSizeMax = 64 << 20

// writeFile replaces a small file: written beside, synced, renamed. The name is durable after SyncDir of its directory.
func writeFile(fs vfs.FS, name string, content []byte) error {
	temporary := name + suffixTemporary
	f, err := fs.Open(temporary, vfs.Create)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(content, 0)
	}
	if err == nil {
		err = synced(f.Sync())
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = fs.Rename(temporary, name)
	}
	if err != nil {
		_ = fs.Remove(temporary)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// readFile reads a whole file of at most bytesMax bytes.
func readFile(fs vfs.FS, name string, bytesMax int64) ([]byte, error) {
	f, err := fs.Open(name, vfs.ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if size > bytesMax {
		return nil, &CorruptionError{name, bytesMax, fmt.Errorf("%d bytes, at most %d", size, bytesMax)}
	}
	b := make([]byte, size)
	if err := readFull(f, b, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// checkpointLines splits a checkpoint in Kafka's format (server.common.CheckpointFile): a line with version 0, one with the
// number of entries, and as many lines. An empty file has no entries, as in Kafka.
func checkpointLines(name string, b []byte) ([]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	bad := func(line int, err error) error {
		return &CorruptionError{name, int64(len(strings.Join(strings.SplitAfterN(string(b), "\n", line+2)[:line], ""))), err}
	}
	lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n"), "\n")
	if lines[0] != "0" {
		return nil, bad(0, fmt.Errorf("version %q, want 0", lines[0]))
	}
	if len(lines) < 2 {
		return nil, nil
	}
	n, err := strconv.Atoi(lines[1])
	if err != nil || n != len(lines)-2 {
		return nil, bad(1, fmt.Errorf("%d entries, %q expected", len(lines)-2, lines[1]))
	}
	return lines[2:], nil
}

// offsets is the content of a checkpoint of the log directory: "topic partition offset" in each line.
type offsets map[TopicPartition]int64

func readOffsets(fs vfs.FS, name string) (offsets, error) {
	b, err := readFile(fs, name, checkpointSizeMax)
	if err != nil {
		return nil, err
	}
	lines, err := checkpointLines(name, b)
	if err != nil {
		return nil, err
	}
	out := make(offsets, len(lines))
	for i, line := range lines {
		parts := strings.Fields(line)
		if len(parts) != 3 {
			return nil, &CorruptionError{name, int64(i), fmt.Errorf("entry %d: %q", i, line)}
		}
		p, perr := strconv.ParseInt(parts[1], 10, 32)
		o, oerr := strconv.ParseInt(parts[2], 10, 64)
		if perr != nil || oerr != nil || p < 0 || o < 0 {
			return nil, &CorruptionError{name, int64(i), fmt.Errorf("entry %d: %q", i, line)}
		}
		out[TopicPartition{parts[0], int32(p)}] = o
	}
	return out, nil
}

func (o offsets) encode() []byte {
	lines := make([]string, 0, len(o))
	for tp, offset := range o {
		lines = append(lines, fmt.Sprintf("%s %d %d\n", tp.Topic, tp.Partition, offset))
	}
	sort.Strings(lines)
	return []byte(fmt.Sprintf("0\n%d\n", len(lines)) + strings.Join(lines, ""))
}

// readEpochs reads a leader-epoch-checkpoint: "epoch offset" in each line, both ascending.
func readEpochs(fs vfs.FS, name string) (epochs, error) {
	b, err := readFile(fs, name, checkpointSizeMax)
	if err != nil {
		return nil, err
	}
	lines, err := checkpointLines(name, b)
	if err != nil {
		return nil, err
	}
	var out epochs
	for i, line := range lines {
		e, o, ok := strings.Cut(line, " ")
		epoch, eerr := strconv.ParseInt(e, 10, 32)
		offset, oerr := strconv.ParseInt(o, 10, 64)
		if !ok || eerr != nil || oerr != nil || epoch < 0 || offset < 0 ||
			i > 0 && (int32(epoch) <= out[i-1].Epoch || offset < out[i-1].StartOffset) {
			return nil, &CorruptionError{name, int64(i), fmt.Errorf("entry %d: %q", i, line)}
		}
		out = append(out, EpochEntry{int32(epoch), offset})
	}
	return out, nil
}

func (e epochs) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "0\n%d\n", len(e))
	for _, entry := range e {
		fmt.Fprintf(&b, "%d %d\n", entry.Epoch, entry.StartOffset)
	}
	return b.Bytes()
}

// readTopicID reads partition.metadata.
func readTopicID(fs vfs.FS, name string) (ID, error) {
	b, err := readFile(fs, name, 4096)
	if err != nil {
		return ID{}, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "version":
			if value != "0" {
				return ID{}, &CorruptionError{name, 0, fmt.Errorf("version %q", value)}
			}
		case "topic_id":
			id, err := ParseID(strings.TrimSpace(value))
			if err != nil {
				return ID{}, &CorruptionError{name, 0, err}
			}
			return id, nil
		}
	}
	return ID{}, &CorruptionError{name, 0, fmt.Errorf("no topic_id")}
}

func encodeTopicID(id ID) []byte { return []byte("version: 0\ntopic_id: " + id.String()) }

// properties is a file of Java's java.util.Properties, as far as meta.properties needs it: key=value, comments.
type properties map[string]string

func readProperties(fs vfs.FS, name string) (properties, error) {
	b, err := readFile(fs, name, 64<<10)
	if err != nil {
		return nil, err
	}
	out := properties{}
	for _, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			key, value, ok = strings.Cut(line, ":")
		}
		if !ok {
			return nil, &CorruptionError{name, 0, fmt.Errorf("line %q", line)}
		}
		out[strings.TrimSpace(key)] = strings.ReplaceAll(strings.TrimSpace(value), `\`, "")
	}
	return out, nil
}

func (p properties) encode() []byte {
	keys := make([]string, 0, len(p))
	for k := range p {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b bytes.Buffer
	b.WriteString("#\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "%s=%s\n", k, p[k])
	}
	return b.Bytes()
}
