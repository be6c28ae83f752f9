package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"cairn/packaging/bench/frames"
)

// newSender serves fetch requests: the response's head with MSG_MORE, chunk bytes of the file from the wanted batch by
// sendfile, and the few bytes that Kafka's format has behind the records.
func newSender(path, topic string, batch, chunk int) (func(*net.TCPConn) error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if chunk%batch != 0 || info.Size()%int64(chunk) != 0 {
		return nil, fmt.Errorf("%s has %d bytes, chunks %d, batches %d: each must be a multiple of the next", path, info.Size(), chunk, batch)
	}
	template := frames.Fetch(topic, 0, chunk)
	before, after := frames.FetchResponse(topic, chunk)
	return func(c *net.TCPConn) error {
		in := bufio.NewReader(c)
		request := make([]byte, len(template.Bytes))
		head := append([]byte(nil), before...)
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		for {
			if err := readFull(in, request); err != nil {
				return err
			}
			frames.SetCorrelation(head, frames.Correlation(request))
			position := template.OffsetOf(request) * int64(batch)
			if err := sendMore(raw, head); err != nil {
				return err
			}
			if err := sendFile(raw, f, position, chunk); err != nil {
				return err
			}
			if _, err := c.Write(after); err != nil {
				return err
			}
		}
	}, nil
}

func sendMore(raw syscall.RawConn, b []byte) error {
	var failed error
	err := raw.Write(func(fd uintptr) bool {
		// A head is smaller than any socket buffer that is writable at all.
		failed = syscall.Sendto(int(fd), b, syscall.MSG_MORE, nil)
		return failed != syscall.EAGAIN
	})
	if err != nil {
		return err
	}
	return failed
}

func sendFile(raw syscall.RawConn, f *os.File, position int64, size int) error {
	in := int(f.Fd())
	var failed error
	err := raw.Write(func(fd uintptr) bool {
		for size > 0 {
			n, err := syscall.Sendfile(int(fd), in, &position, size)
			switch {
			case err == syscall.EAGAIN:
				return false
			case err == syscall.EINTR:
			case err != nil:
				failed = err
				return true
			case n == 0:
				failed = io.ErrUnexpectedEOF
				return true
			default:
				size -= n
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return failed
}
