package wire

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	"cairn/platform/sockio"
	"cairn/platform/vfs"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// bytesFile is a file of which only ReadAt works.
type bytesFile struct {
	vfs.File
	r *bytes.Reader
}

func (f bytesFile) ReadAt(p []byte, at int64) (int, error) { return f.r.ReadAt(p, at) }

func flatten(t interface{ Fatal(...any) }, parts []sockio.Part) []byte {
	var out []byte
	for _, p := range parts {
		if p.File == nil {
			out = append(out, p.Bytes...)
			continue
		}
		b := make([]byte, p.Length)
		if _, err := p.File.ReadAt(b, p.Position); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// encodeLike encodes what a kmsg response says. Every second set of records comes from a file.
func encodeLike(e *FetchEncoder, resp *kmsg.FetchResponse, correlation int32) ([]sockio.Part, error) {
	e.Begin(resp.Version, correlation, resp.ErrorCode, resp.SessionID, len(resp.Topics))
	for _, t := range resp.Topics {
		e.Topic(t.Topic, t.TopicID, len(t.Partitions))
		for i, p := range t.Partitions {
			e.Partition(partitionLike(i, &p))
		}
		e.EndTopic()
	}
	var nodes []FetchNode
	for _, b := range resp.Brokers {
		nodes = append(nodes, FetchNode{b.NodeID, b.Host, b.Port, b.Rack})
	}
	return e.End(nodes)
}

func partitionLike(i int, p *kmsg.FetchResponseTopicPartition) *FetchPartition {
	out := &FetchPartition{
		Partition: p.Partition, ErrorCode: p.ErrorCode, HighWatermark: p.HighWatermark, LastStable: p.LastStableOffset,
		LogStart: p.LogStartOffset, PreferredReplica: p.PreferredReadReplica, Records: sockio.Part{Bytes: p.RecordBatches},
	}
	if i%2 == 1 {
		padded := append([]byte("xyz"), p.RecordBatches...)
		out.Records = sockio.Part{File: bytesFile{r: bytes.NewReader(padded)}, Position: 3, Length: int64(len(p.RecordBatches))}
	}
	if p.AbortedTransactions != nil {
		out.Aborted = []FetchAborted{}
	}
	for _, a := range p.AbortedTransactions {
		out.Aborted = append(out.Aborted, FetchAborted{a.ProducerID, a.FirstOffset})
	}
	empty := kmsg.NewFetchResponseTopicPartition()
	if !reflect.DeepEqual(p.DivergingEpoch, empty.DivergingEpoch) {
		out.Diverging = &FetchEpochEnd{p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset}
	}
	if !reflect.DeepEqual(p.CurrentLeader, empty.CurrentLeader) {
		out.CurrentLeader = &FetchLeader{p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch}
	}
	if !reflect.DeepEqual(p.SnapshotID, empty.SnapshotID) {
		out.SnapshotID = &FetchEpochEnd{p.SnapshotID.Epoch, p.SnapshotID.EndOffset}
	}
	return out
}

// TestFetchEncoderEqualsKmsg holds the hand-written encoder against kmsg's for random responses of all versions.
func TestFetchEncoderEqualsKmsg(t *testing.T) {
	var e FetchEncoder // used again and again, as connections do
	rapid.Check(t, func(t *rapid.T) {
		resp := kmsg.NewPtrFetchResponse()
		fill(t, reflect.ValueOf(resp).Elem(), 0)
		dropTags(reflect.ValueOf(resp).Elem())
		resp.ThrottleMillis = 0
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				p := &resp.Topics[i].Partitions[j]
				if p.RecordBatches == nil {
					p.RecordBatches = []byte{}
				}
				if rapid.Bool().Draw(t, "without tags") {
					d := kmsg.NewFetchResponseTopicPartition()
					p.DivergingEpoch, p.CurrentLeader, p.SnapshotID = d.DivergingEpoch, d.CurrentLeader, d.SnapshotID
				}
			}
		}
		resp.Version = int16(rapid.IntRange(4, 18).Draw(t, "version"))
		if resp.Version < 16 {
			resp.Brokers = nil // kmsg writes the tag at any flexible version, Kafka from 16 on
		}
		parts, err := encodeLike(&e, resp, 77)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := flatten(t, parts), AppendResponse(nil, 77, resp); !bytes.Equal(got, want) {
			t.Fatalf("version %d\n got %x\nwant %x\n%+v", resp.Version, got, want, resp)
		}
	})
}

// TestProduceEncoderEqualsKmsg is the same for Produce responses.
func TestProduceEncoderEqualsKmsg(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		resp := kmsg.NewPtrProduceResponse()
		fill(t, reflect.ValueOf(resp).Elem(), 0)
		dropTags(reflect.ValueOf(resp).Elem())
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if rapid.Bool().Draw(t, "without tags") {
					resp.Topics[i].Partitions[j].CurrentLeader = kmsg.NewProduceResponseTopicPartitionCurrentLeader()
				}
			}
		}
		resp.Version = int16(rapid.IntRange(3, 13).Draw(t, "version"))
		prefix := []byte("before")
		if got, want := AppendProduceResponse(prefix, 77, resp), AppendResponse(prefix, 77, resp); !bytes.Equal(got, want) {
			t.Fatalf("version %d\n got %x\nwant %x\n%+v", resp.Version, got, want, resp)
		}
	})
}

// dropTags removes unknown tags, which a server does not send.
func dropTags(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			v.SetZero()
			return
		}
		for i := range v.NumField() {
			dropTags(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			dropTags(v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			dropTags(v.Elem())
		}
	}
}

func TestFetchResponseTooLong(t *testing.T) {
	var e FetchEncoder
	e.Begin(12, 1, 0, 0, 1)
	e.Topic("t", [16]byte{}, 2)
	for range 2 {
		e.Partition(&FetchPartition{Records: sockio.Part{File: bytesFile{}, Length: 1 << 30}})
	}
	e.EndTopic()
	if _, err := e.End(nil); err == nil {
		t.Error("a response of 2 GiB fits no length field")
	}
}

func BenchmarkFetchEncoder(b *testing.B) {
	var e FetchEncoder
	p := FetchPartition{Records: sockio.Part{File: bytesFile{}, Length: 65536}}
	b.ReportAllocs()
	for b.Loop() {
		e.Begin(12, 1, 0, 0, 1)
		e.Topic("topic", [16]byte{}, 1)
		e.Partition(&p)
		e.EndTopic()
		if _, err := e.End(nil); err != nil {
			b.Fatal(err)
		}
	}
}
