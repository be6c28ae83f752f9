package load

import (
	"fmt"
	"net"

	"cairn/packaging/bench/frames"
)

// Producer sends the same batch again and again.
type Producer struct {
	Request *frames.Request
	Topic   string
	Batch   int // bytes of the batch: the payload of one request
}

// Open does nothing: a Kafka client without login may begin with any request.
func (p *Producer) Open(net.Conn) error { return nil }

// Append appends the request.
func (p *Producer) Append(dst []byte, id uint32) []byte { return p.Request.Append(dst, id) }

// Check reads the error code.
func (p *Producer) Check(frame []byte) (int, error) {
	code, err := frames.ProduceError(frame, p.Topic)
	if err != nil {
		return 0, err
	}
	if code != 0 {
		return 0, fmt.Errorf("produce to %s failed with error %d", p.Topic, code)
	}
	return p.Batch, nil
}

// Fetcher reads a partition from its beginning, and again when it has come to the end. It keeps one request in flight: the
// next offset is known only from the response.
type Fetcher struct {
	Request *frames.Request
	End     int64 // offset at which to begin again
	next    int64
}

// Open does nothing.
func (f *Fetcher) Open(net.Conn) error { return nil }

// Append appends a fetch at the next offset.
func (f *Fetcher) Append(dst []byte, id uint32) []byte { return f.Request.AppendAt(dst, id, f.next) }

// Check counts the whole batches of the response and moves on behind them.
func (f *Fetcher) Check(frame []byte) (int, error) {
	records, err := frames.FetchRecords(frame)
	if err != nil {
		return 0, fmt.Errorf("at offset %d: %w", f.next, err)
	}
	next, whole := frames.NextOffset(records, f.next)
	if whole == 0 {
		return 0, fmt.Errorf("at offset %d: %d bytes without a whole batch", f.next, len(records))
	}
	if f.next = next; f.next >= f.End {
		f.next = 0
	}
	return whole, nil
}
