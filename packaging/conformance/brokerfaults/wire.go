package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	dialMax     = 200 * time.Millisecond
	answerMax   = 16 << 20
	clientName  = "brokerfaults"
	unsupported = 35
)

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientName))

// wire is a connection to one broker with one request at a time: what it measures is the broker, not a client's patience.
type wire struct {
	nc          net.Conn
	correlation int32
}

func dialWire(ctx context.Context, address string) (*wire, error) {
	dialer := net.Dialer{Timeout: dialMax}
	nc, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &wire{nc: nc}, nil
}

// ask sends a request at the version that it is set to, and reads its response. After an error the connection is of no use.
func (w *wire) ask(q kmsg.Request, patience time.Duration) (kmsg.Response, error) {
	w.correlation++
	if err := w.nc.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := w.nc.Write(formatter.AppendRequest(nil, q, w.correlation)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(w.nc, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > answerMax {
		return nil, fmt.Errorf("an answer of %d bytes", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(w.nc, b); err != nil {
		return nil, err
	}
	r := kbin.Reader{Src: b}
	if got := r.Int32(); got != w.correlation {
		return nil, fmt.Errorf("correlation %d was answered with %d", w.correlation, got)
	}
	p := q.ResponseKind()
	if p.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := errors.Join(r.Complete(), p.ReadFrom(r.Src)); err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	return p, nil
}

// Close closes the connection; an ask under way ends.
func (w *wire) Close() { _ = w.nc.Close() }
