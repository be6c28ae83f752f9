package frames

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestBatchIsKafkas(t *testing.T) {
	raw := Batch(3, 100, 7)
	var b kmsg.RecordBatch
	if err := b.ReadFrom(raw); err != nil {
		t.Fatal(err)
	}
	if b.Magic != 2 || b.NumRecords != 3 || b.LastOffsetDelta != 2 || b.ProducerID != -1 || b.FirstSequence != -1 {
		t.Fatalf("header %+v", b)
	}
	if want := crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)); uint32(b.CRC) != want {
		t.Fatalf("CRC %x, want %x", uint32(b.CRC), want)
	}
	if next, whole := NextOffset(append(bytes.Clone(raw), raw[:90]...), 0); next != 3 || whole != len(raw) {
		t.Fatalf("next offset %d after %d bytes, want 3 after %d", next, whole, len(raw))
	}
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		exact, err := BatchOfBytes(size, 1)
		if err != nil || len(exact) != size {
			t.Fatalf("%d bytes, error %v, want %d", len(exact), err, size)
		}
	}
}

func TestProduceFrames(t *testing.T) {
	batch := Batch(1, 10, 1)
	frame := Produce("bench", 0, batch).Append(nil, 99)
	if Correlation(frame) != 99 {
		t.Fatalf("correlation %d", Correlation(frame))
	}
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(ProduceVersion)
	// length, key, version, correlation, client id, header tags
	if err := r.ReadFrom(frame[4+2+2+4+2+len("cairn-bench")+1:]); err != nil {
		t.Fatal(err)
	}
	if r.Acks != -1 || !bytes.Equal(r.Topics[0].Partitions[0].Records, batch) {
		t.Fatalf("request %+v", r)
	}
	response := ProduceResponse("bench")
	if code, err := ProduceError(response, "bench"); code != 0 || err != nil {
		t.Fatalf("code %d, error %v", code, err)
	}
	response[4+4+1+1+1+5+1+4+1] = 6
	if code, err := ProduceError(response, "bench"); code != 6 || err != nil {
		t.Fatalf("code %d, error %v; want 6", code, err)
	}
	if _, err := ProduceError(response[:12], "bench"); err == nil {
		t.Fatal("a short response passed")
	}
}

func TestFetchFrames(t *testing.T) {
	template := Fetch("bench", 0, 65536)
	frame := template.AppendAt(nil, 5, 1234)
	if template.OffsetOf(frame) != 1234 || Correlation(frame) != 5 {
		t.Fatalf("offset %d, correlation %d", template.OffsetOf(frame), Correlation(frame))
	}
	records := Batch(1, 1000, 1)
	before, after := FetchResponse("bench", len(records))
	whole := append(append(bytes.Clone(before), records...), after...)
	got, err := FetchRecords(whole)
	if err != nil || !bytes.Equal(got, records) {
		t.Fatalf("%d bytes, error %v", len(got), err)
	}
}

func TestZooKeeperFrames(t *testing.T) {
	if connect := ZooKeeperConnect(1000); len(connect) != 4+45 {
		t.Fatalf("connect has %d bytes, want 49", len(connect))
	}
	reply := make([]byte, GetDataReplyBytes(10))
	if err := GetDataError(reply, 10); err != nil {
		t.Fatal(err)
	}
	reply[19] = 0x9b
	if GetDataError(reply, 10) == nil || GetDataError(reply, 11) == nil {
		t.Fatal("a wrong reply passed")
	}
	if got := XID(GetData("/a").Append(nil, 7)); got != 7 {
		t.Fatalf("xid %d", got)
	}
}

func TestNumberedRequests(t *testing.T) {
	r := Create(Numbered("/a/n"), []byte("data"))
	frame := r.AppendNumbered(nil, 7, 1234)
	if got := int(frame[2])<<8 | int(frame[3]); got != len(frame)-4 || XID(frame) != 7 {
		t.Fatalf("a frame of %d bytes says %d, xid %d", len(frame), got, XID(frame))
	}
	want := binary.BigEndian.AppendUint32(nil, 1)
	want = append(append(want, 0, 0, 0, 12), "/a/n00001234"...)
	want = append(append(want, 0, 0, 0, 4), "data"...)
	want = append(want, 0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 5)
	want = append(append(want, "world"...), 0, 0, 0, 6)
	want = append(append(want, "anyone"...), 0, 0, 0, 0)
	if !bytes.Equal(frame[8:], want) {
		t.Fatalf("the request is\n%q, want\n%q", frame[8:], want)
	}
	if again := r.AppendNumbered(nil, 8, 99999999); !bytes.Contains(again, []byte("/a/n99999999")) {
		t.Fatalf("the second request is %q", again)
	}
}

func TestReplyError(t *testing.T) {
	reply := make([]byte, 20)
	if err := ReplyError(reply); err != nil || IsEvent(reply) {
		t.Fatalf("a good reply: %v", err)
	}
	SetCorrelation(reply, xidEvent)
	if reply[19] = 1; ReplyError(reply) == nil || ReplyError(reply[:19]) == nil || !IsEvent(reply) {
		t.Fatal("an error, a short reply or an event passed")
	}
}
