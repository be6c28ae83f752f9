package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"cairn/packaging/bench/frames"
)

// newEcho answers every frame with one of reply bytes, whose id is the request's.
func newEcho(reply int) (func(*net.TCPConn) error, error) {
	if reply < 8 {
		return nil, fmt.Errorf("a reply of %d bytes is no frame", reply)
	}
	return func(c *net.TCPConn) error {
		in := bufio.NewReader(c)
		answer := make([]byte, reply)
		binary.BigEndian.PutUint32(answer, uint32(reply-4))
		var request []byte
		for {
			head, err := in.Peek(4)
			if err != nil {
				return err
			}
			size := 4 + int(binary.BigEndian.Uint32(head))
			if cap(request) < size {
				request = make([]byte, size)
			}
			request = request[:size]
			if err := readFull(in, request); err != nil {
				return err
			}
			frames.SetCorrelation(answer, frames.XID(request))
			if _, err := c.Write(answer); err != nil {
				return err
			}
		}
	}, nil
}

// readFull is io.ReadFull.
func readFull(in *bufio.Reader, b []byte) error {
	_, err := io.ReadFull(in, b)
	return err
}
