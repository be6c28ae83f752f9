package frames

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The versions that the bench speaks: the first flexible ones that name a topic by its name, which every broker since
// Kafka 2.7 serves.
const (
	ProduceVersion = 9
	FetchVersion   = 12
)

// Where a frame's changing fields are, from the start of its four length bytes.
const (
	requestCorrelationAt  = 8
	responseCorrelationAt = 4
)

// sentinel stands in a template for an offset, whose place is then searched.
const sentinel = 0x7a7b7c7d71727374

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("cairn-bench"))

// Request is an encoded frame in which the correlation id changes, and for a fetch the offset.
type Request struct {
	Bytes    []byte
	offsetAt int
}

// Append appends the frame with the correlation id.
func (r *Request) Append(dst []byte, correlation uint32) []byte {
	start := len(dst)
	dst = append(dst, r.Bytes...)
	binary.BigEndian.PutUint32(dst[start+requestCorrelationAt:], correlation)
	return dst
}

// AppendAt is Append for a fetch that begins at the given offset.
func (r *Request) AppendAt(dst []byte, correlation uint32, offset int64) []byte {
	start := len(dst)
	dst = r.Append(dst, correlation)
	binary.BigEndian.PutUint64(dst[start+r.offsetAt:], uint64(offset))
	return dst
}

// OffsetOf reads the offset of a fetch that this template has made.
func (r *Request) OffsetOf(frame []byte) int64 {
	return int64(binary.BigEndian.Uint64(frame[r.offsetAt:]))
}

// Correlation reads a request's correlation id.
func Correlation(request []byte) uint32 {
	return binary.BigEndian.Uint32(request[requestCorrelationAt:])
}

// Produce is a request with acks=all for one batch of one partition. Topic names of up to 126 bytes are supported.
func Produce(topic string, partition int32, batch []byte) *Request {
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(ProduceVersion)
	r.Acks = -1
	r.TimeoutMillis = 10000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition = partition
	p.Records = batch
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	return &Request{Bytes: formatter.AppendRequest(nil, r, 0)}
}

// ProduceResponse is a frame that says that the batch of topic's partition 0 was appended: what a floor program echoes.
func ProduceResponse(topic string) []byte {
	r := kmsg.NewPtrProduceResponse()
	r.SetVersion(ProduceVersion)
	p := kmsg.NewProduceResponseTopicPartition()
	t := kmsg.NewProduceResponseTopic()
	t.Topic = topic
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	return responseFrame(r.AppendTo(nil))
}

// ProduceError reads the one partition's error code out of a response frame to Produce.
func ProduceError(frame []byte, topic string) (int16, error) {
	// length 4, correlation 4, header tags 1, topics 1, name 1+n, partitions 1, partition 4, then the error code
	at := 4 + 4 + 1 + 1 + 1 + len(topic) + 1 + 4
	if len(frame) < at+2 || frame[8] != 0 || frame[9] != 2 || frame[at-5] != 2 {
		return 0, fmt.Errorf("a produce response of %d bytes is not of one partition of %s", len(frame), topic)
	}
	return int16(binary.BigEndian.Uint16(frame[at:])), nil
}

// Fetch is a request outside any fetch session for up to bytesMax of one partition. It waits up to half a second for data.
func Fetch(topic string, partition int32, bytesMax int) *Request {
	r := kmsg.NewPtrFetchRequest()
	r.SetVersion(FetchVersion)
	r.ReplicaID = -1
	r.MaxWaitMillis = 500
	r.MinBytes = 1
	r.MaxBytes = 64 << 20
	r.SessionID = 0
	r.SessionEpoch = -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition = partition
	p.CurrentLeaderEpoch = -1
	p.LastFetchedEpoch = -1
	p.LogStartOffset = -1
	p.FetchOffset = sentinel
	p.PartitionMaxBytes = int32(bytesMax)
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	request := &Request{Bytes: formatter.AppendRequest(nil, r, 0)}
	request.offsetAt = bytes.Index(request.Bytes, binary.BigEndian.AppendUint64(nil, sentinel))
	return request
}

// FetchResponse returns what surrounds size bytes of records in a response frame: a floor program sends before, then
// the records, then after.
func FetchResponse(topic string, size int) (before, after []byte) {
	r := kmsg.NewPtrFetchResponse()
	r.SetVersion(FetchVersion)
	p := kmsg.NewFetchResponseTopicPartition()
	p.HighWatermark = 1 << 40
	p.RecordBatches = bytes.Repeat([]byte{0xa5}, size)
	t := kmsg.NewFetchResponseTopic()
	t.Topic = topic
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	frame := responseFrame(r.AppendTo(nil))
	at := bytes.Index(frame, p.RecordBatches)
	return frame[:at], frame[at+size:]
}

// FetchRecords returns the records of the one partition in a response frame to Fetch. They are part of frame.
func FetchRecords(frame []byte) ([]byte, error) {
	if len(frame) < 9 {
		return nil, fmt.Errorf("a fetch response of %d bytes is too short", len(frame))
	}
	r := kmsg.NewPtrFetchResponse()
	r.SetVersion(FetchVersion)
	if err := r.ReadFrom(frame[9:]); err != nil {
		return nil, fmt.Errorf("fetch response: %w", err)
	}
	if r.ErrorCode != 0 || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch response: error %d, %d topics", r.ErrorCode, len(r.Topics))
	}
	p := &r.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return nil, fmt.Errorf("fetch response: partition error %d", p.ErrorCode)
	}
	return p.RecordBatches, nil
}

// NextOffset walks the whole batches of records and returns the offset after the last, and how many bytes they have. A
// part of a batch at the end, which a broker may send, is not counted.
func NextOffset(records []byte, from int64) (next int64, whole int) {
	next = from
	for len(records)-whole >= batchHeaderBytes {
		b := records[whole:]
		size := 12 + int(binary.BigEndian.Uint32(b[8:]))
		if size > len(b) {
			break
		}
		next = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1
		whole += size
	}
	return next, whole
}

// responseFrame puts length, correlation id 0 and the flexible header's empty tags before a body.
func responseFrame(body []byte) []byte {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)+5))
	frame = append(frame, 0, 0, 0, 0, 0)
	return append(frame, body...)
}

// SetCorrelation writes the correlation id of a response frame.
func SetCorrelation(response []byte, correlation uint32) {
	binary.BigEndian.PutUint32(response[responseCorrelationAt:], correlation)
}

// ResponseCorrelation reads the correlation id of a response frame; of a ZooKeeper reply it is the xid.
func ResponseCorrelation(response []byte) uint32 {
	return binary.BigEndian.Uint32(response[responseCorrelationAt:])
}
