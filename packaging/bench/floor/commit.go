package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"syscall"

	"cairn/packaging/bench/frames"
)

const (
	// preallocateStep is how far the file is allocated beyond what is written.
	preallocateStep = 64 << 20
	// fileBytesMax ends the file: it is cut and begun anew, as a log rolls.
	fileBytesMax = 1 << 30
	keepSize     = 1 // FALLOC_FL_KEEP_SIZE
	readBuffer   = 256 << 10
)

// commit is the frames that one connection has read at once.
type commit struct {
	bytes []byte // the frames, as they came
	ids   []uint32
	done  chan struct{}
}

// newCommitter serves produce requests: each connection reads all frames that have arrived, hands them to the one writer,
// and answers them when they are flushed. While a group is being written and flushed the next one gathers.
func newCommitter(path, topic string) (func(*net.TCPConn) error, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	queue := make(chan *commit, 1024)
	go write(f, queue)
	response := frames.ProduceResponse(topic)
	return func(c *net.TCPConn) error { return commitFrames(c, queue, response) }, nil
}

// write owns the file. It ends the process when the disk fails: a floor that does not write is no floor.
func write(f *os.File, queue <-chan *commit) {
	var at, allocated int64
	var group []*commit
	var buf []byte
	for first := range queue {
		group = append(group[:0], first)
		buf = append(buf[:0], first.bytes...)
	gather:
		for len(group) < cap(queue) {
			select {
			case next := <-queue:
				group = append(group, next)
				buf = append(buf, next.bytes...)
			default:
				break gather
			}
		}
		if err := flush(f, buf, &at, &allocated); err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
			os.Exit(1)
		}
		for _, c := range group {
			c.done <- struct{}{}
		}
	}
}

func flush(f *os.File, buf []byte, at, allocated *int64) error {
	if *at+int64(len(buf)) > fileBytesMax {
		if err := f.Truncate(0); err != nil {
			return err
		}
		*at, *allocated = 0, 0
	}
	for *at+int64(len(buf)) > *allocated {
		if err := syscall.Fallocate(int(f.Fd()), keepSize, *allocated, preallocateStep); err != nil {
			return fmt.Errorf("fallocate: %w", err)
		}
		*allocated += preallocateStep
	}
	if _, err := f.WriteAt(buf, *at); err != nil {
		return err
	}
	*at += int64(len(buf))
	if err := syscall.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// commitFrames reads, hands over, waits and answers.
func commitFrames(c *net.TCPConn, queue chan<- *commit, response []byte) error {
	in := bufio.NewReaderSize(c, readBuffer)
	job := &commit{done: make(chan struct{}, 1)}
	var out []byte
	for {
		job.bytes, job.ids = job.bytes[:0], job.ids[:0]
		for ok := true; ok; ok = whole(in) {
			if err := readInto(in, job); err != nil {
				return err
			}
		}
		queue <- job
		<-job.done
		out = out[:0]
		for _, id := range job.ids {
			start := len(out)
			out = append(out, response...)
			frames.SetCorrelation(out[start:], id)
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
	}
}

// whole says whether the buffer holds a whole frame, which can be read without waiting.
func whole(in *bufio.Reader) bool {
	if in.Buffered() < 4 {
		return false
	}
	head, err := in.Peek(4)
	return err == nil && in.Buffered() >= 4+int(binary.BigEndian.Uint32(head))
}

// readInto appends one frame to the job.
func readInto(in *bufio.Reader, job *commit) error {
	head, err := in.Peek(4)
	if err != nil {
		return err
	}
	size := 4 + int(binary.BigEndian.Uint32(head))
	start := len(job.bytes)
	for cap(job.bytes) < start+size {
		job.bytes = append(job.bytes[:cap(job.bytes)], 0)
	}
	job.bytes = job.bytes[:start+size]
	if err := readFull(in, job.bytes[start:]); err != nil {
		return err
	}
	job.ids = append(job.ids, frames.Correlation(job.bytes[start:]))
	return nil
}
