package kafkaserver

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/platform/clock"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *client) tryProduce(version int16, req *kmsg.ProduceRequest) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	return ask(c, version, req, kmsg.NewPtrProduceResponse()).Topics[0].Partitions[0]
}

// fixCRC makes a changed batch intact again.
func fixCRC(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], batch.Checksum(b))
	return b
}

// Behaviours 18 to 21: what a batch must be, and which code says so.
func TestBehaviour18To21Validation(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	r.topic("small", 1, "max.message.bytes", "200")
	r.topic("compacted", 1, "cleanup.policy", "compact")
	r.topic("strict", 1, "message.timestamp.before.max.ms", "1000")
	r.topic("lenient", 1, "message.timestamp.type", "LogAppendTime", "message.timestamp.before.max.ms", "1000")
	c := r.dial()
	good := func() []byte { return batchOf(nil, "one", "two") }
	with := func(f func(b []byte)) []byte { b := good(); f(b); return b }
	nullKey := func(codec batch.Codec) []byte {
		o := batch.NewOptions()
		o.Codec = codec
		b := batch.NewBuilder(o)
		b.Append(1_700_000_000_000, []byte("k"), []byte("v"))
		b.Append(1_700_000_000_000, nil, []byte("v"))
		out, _ := b.Build(nil)
		return out
	}
	for _, c18 := range []struct {
		name    string
		topic   string
		version int16
		records []byte
		code    int16
		errors  int // record errors, v8+
	}{
		{"good", "t", 9, good(), 0, 0},
		{"good, oldest version", "t", 3, good(), 0, 0},
		{"null", "t", 9, nil, 87, 0},
		{"empty", "t", 9, []byte{}, 87, 0},
		{"cut", "t", 9, good()[:70], 87, 0},
		{"two batches", "t", 9, append(good(), good()...), 87, 0},
		{"magic 1", "t", 9, with(func(b []byte) { b[16] = 1 }), 87, 0},
		{"bad CRC", "t", 9, with(func(b []byte) { b[len(b)-1] ^= 1 }), 2, 0},
		{"count does not match", "t", 9, with(func(b []byte) { b[60] = 1; fixCRC(b) }), 87, 0},
		{"control batch", "t", 9, with(func(b []byte) { b[22] |= 0x20; fixCRC(b) }), 87, 0},
		{"producer id without sequence", "t", 9, with(func(b []byte) { copy(b[43:], make([]byte, 8)); fixCRC(b) }), 87, 0},
		{"transactional without transactions", "t", 9, batchOf(func(o *batch.Options) {
			o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 5, 0, 0, true
		}, "v"), 48, 0},
		{"offset deltas wrong", "t", 9, with(func(b []byte) { b[61+3] = 4; fixCRC(b) }), 87, 1},
		{"unknown codec", "t", 9, with(func(b []byte) { b[22] = 7; fixCRC(b) }), 2, 0},
		{"behaviour 19: zstd before version 7", "t", 6, batchOf(func(o *batch.Options) { o.Codec = batch.Zstd }, "v"), 76, 0},
		{"behaviour 19: zstd at version 7", "t", 7, batchOf(func(o *batch.Options) { o.Codec = batch.Zstd }, "v"), 0, 0},
		{"behaviour 20: larger than max.message.bytes", "small", 9, batchOf(nil, string(make([]byte, 300))), 10, 0},
		{"behaviour 20: smaller when compressed", "small", 9, batchOf(func(o *batch.Options) { o.Codec = batch.Gzip }, string(make([]byte, 300))), 0, 0},
		{"null key on a compacted topic", "compacted", 9, nullKey(batch.None), 87, 1},
		{"keys on a compacted topic", "compacted", 9, good(), 0, 0},
		{"behaviour 21: too old", "strict", 9, good(), 32, 1},
		{"behaviour 21: too old, compressed", "strict", 9, batchOf(func(o *batch.Options) { o.Codec = batch.LZ4 }, "v"), 32, 0},
		{"behaviour 21: LogAppendTime ignores the producer's", "lenient", 9, good(), 0, 0},
	} {
		t.Run(c18.name, func(t *testing.T) {
			before := time.Now().UnixMilli()
			p := c.tryProduce(c18.version, produceRequest(c18.topic, 0, -1, c18.records))
			if p.ErrorCode != c18.code {
				t.Fatalf("code %d, want %d; %v", p.ErrorCode, c18.code, p.ErrorMessage)
			}
			if len(p.ErrorRecords) != c18.errors {
				t.Errorf("record errors %+v", p.ErrorRecords)
			}
			if p.ErrorCode != 0 && (p.BaseOffset != -1 || p.LogAppendTime != -1) {
				t.Errorf("offset %d, time %d with an error", p.BaseOffset, p.LogAppendTime)
			}
			if stamped := c18.topic == "lenient"; p.ErrorCode == 0 && (p.LogAppendTime >= before) != stamped {
				t.Errorf("log append time %d", p.LogAppendTime)
			}
		})
	}
}

// A box whose clock is known to be wrong refuses nobody's timestamps: it may have booted in 1970.
func TestTimestampsUnderABadClock(t *testing.T) {
	var good atomic.Bool
	r := newRig(t, func(cfg *rigConfig) { cfg.deps.GoodClock = func(clock.Now) bool { return good.Load() } })
	r.topic("strict", 1, "message.timestamp.before.max.ms", "1000")
	c := r.dial()
	old := batchOf(nil, "v") // of long ago
	for _, known := range []bool{false, true} {
		good.Store(known)
		p := c.tryProduce(9, produceRequest("strict", 0, -1, old))
		if refused := p.ErrorCode == 32; refused != known {
			t.Errorf("the clock is good: %v, answered with code %d", known, p.ErrorCode)
		}
	}
}

// A box that hears no majority may lead no more: a batch that follows none of its own is no sign of loss then.
func TestOutOfOrderWhereNobodyIsHeard(t *testing.T) {
	var serving atomic.Bool
	r := newRig(t, func(cfg *rigConfig) { cfg.deps.Serving = serving.Load })
	r.topic("t", 1)
	c := r.dial()
	late := batchOf(func(o *batch.Options) { o.ProducerID, o.ProducerEpoch, o.BaseSequence = 5, 0, 0 }, "v")
	gap := batchOf(func(o *batch.Options) { o.ProducerID, o.ProducerEpoch, o.BaseSequence = 5, 0, 7 }, "v")
	if p := c.tryProduce(9, produceRequest("t", 0, -1, late)); p.ErrorCode != 0 {
		t.Fatal(p.ErrorCode)
	}
	for heard, code := range map[bool]int16{false: codeNotLeaderOrFollower, true: codeOutOfOrderSequenceNumber} {
		serving.Store(heard)
		if p := c.tryProduce(9, produceRequest("t", 0, -1, gap)); p.ErrorCode != code {
			t.Errorf("a majority is heard: %v, answered with code %d, want %d", heard, p.ErrorCode, code)
		}
	}
}

// Compressed batches are opened where the topic says so, and a bomb costs no more than its bound.
func TestValidateCompressed(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1, "cairn.validate.compressed", "true", "max.message.bytes", "10000000")
	c := r.dial()
	zip := func(o *batch.Options) { o.Codec = batch.Gzip }
	if p := c.tryProduce(9, produceRequest("t", 0, -1, batchOf(zip, "a", "b"))); p.ErrorCode != 0 {
		t.Error(p.ErrorCode)
	}
	garbage := batchOf(zip, "a", "b")
	copy(garbage[batch.HeaderSize:], "not gzip at all")
	if p := c.tryProduce(9, produceRequest("t", 0, -1, fixCRC(garbage))); p.ErrorCode != 2 {
		t.Error(p.ErrorCode)
	}
	bomb := batchOf(zip, string(make([]byte, r.limits.OpenBatchBytesMax+1)))
	if p := c.tryProduce(9, produceRequest("t", 0, -1, bomb)); p.ErrorCode != 10 {
		t.Error(p.ErrorCode)
	}
}

func TestProduceRefusals(t *testing.T) {
	r := newRig(t)
	id := r.topic("t", 1)
	r.topic("__consumer_offsets", 1)
	r.declare("away", 1, 2)
	r.broker(2, "other.example", 9094)
	c := r.dial()
	b := batchOf(nil, "v")
	if p := c.tryProduce(9, produceRequest("nowhere", 0, -1, b)); p.ErrorCode != 3 {
		t.Errorf("unknown topic: %d", p.ErrorCode)
	}
	if p := c.tryProduce(9, produceRequest("t", 7, -1, b)); p.ErrorCode != 3 {
		t.Errorf("unknown partition: %d", p.ErrorCode)
	}
	if p := c.tryProduce(9, produceRequest("t", 0, 2, b)); p.ErrorCode != 21 {
		t.Errorf("acks 2: %d", p.ErrorCode)
	}
	txn := produceRequest("t", 0, -1, b)
	txn.TransactionID = kmsg.StringPtr("x")
	if p := c.tryProduce(9, txn); p.ErrorCode != 48 {
		t.Errorf("transaction: %d", p.ErrorCode)
	}
	// Behaviour 26: only the admin client writes internal topics.
	if p := c.tryProduce(9, produceRequest("__consumer_offsets", 0, -1, b)); p.ErrorCode != 17 {
		t.Errorf("internal topic: %d", p.ErrorCode)
	}
	// Topic ids.
	byID := produceRequest("", 0, -1, b)
	byID.Topics[0].TopicID = id
	if p := c.tryProduce(13, byID); p.ErrorCode != 0 {
		t.Errorf("by id: %d", p.ErrorCode)
	}
	byID.Topics[0].TopicID[0] ^= 1
	if p := c.tryProduce(13, byID); p.ErrorCode != 100 {
		t.Errorf("unknown id: %d", p.ErrorCode)
	}
	// Behaviour 25: another box leads; from version 10 on the answer says which one and where (KIP-951).
	resp := ask(c, 10, produceRequest("away", 0, -1, b), kmsg.NewPtrProduceResponse())
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != 6 || p.CurrentLeader.LeaderID != 2 || p.CurrentLeader.LeaderEpoch != 1 {
		t.Errorf("wrong box: %+v", p)
	}
	if len(resp.Brokers) != 1 || resp.Brokers[0].Host != "other.example" || resp.Brokers[0].Port != 9094 {
		t.Errorf("endpoints: %+v", resp.Brokers)
	}
}

// Behaviour 25: acks=all is refused before the append when too few replicas are in sync; acks=1 does not ask.
func TestBehaviour25NotEnoughReplicas(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	rep := r.replica("t", 0)
	cfg := *rep.View().Config
	cfg.InSyncMin = 2
	rep.SetConfig(&cfg)
	c := r.dial()
	if p := c.tryProduce(9, produceRequest("t", 0, -1, batchOf(nil, "v"))); p.ErrorCode != 19 || p.BaseOffset != -1 {
		t.Errorf("%+v", p)
	}
	if p := c.tryProduce(9, produceRequest("t", 0, 1, batchOf(nil, "v"))); p.ErrorCode != 0 || p.BaseOffset != 0 {
		t.Errorf("%+v", p)
	}
}

func TestBehaviour26AdminClient(t *testing.T) {
	r := newRig(t)
	r.topic("__consumer_offsets", 1)
	c := r.dial()
	req := produceRequest("__consumer_offsets", 0, -1, batchOf(nil, "v"))
	req.Version = 9
	c.write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("__admin_client")).AppendRequest(nil, req, 1))
	if p := receive(c, 9, kmsg.NewPtrProduceResponse()).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Error(p.ErrorCode)
	}
}

// Behaviour 5: acks=0 has no answer, and an error closes the connection.
func TestBehaviour05AcksZero(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	c.send(9, produceRequest("t", 0, 0, batchOf(nil, "a")))
	c.send(9, produceRequest("t", 0, 0, batchOf(nil, "b")))
	if got := c.produce("t", 0, "c"); got != 2 {
		t.Errorf("offset %d", got)
	}
	// An earlier answer is still sent before the connection closes.
	c.send(9, produceRequest("t", 0, -1, batchOf(nil, "d")))
	c.send(9, produceRequest("nowhere", 0, 0, batchOf(nil, "e")))
	if resp := receive(c, 9, kmsg.NewPtrProduceResponse()); resp.Topics[0].Partitions[0].BaseOffset != 3 {
		t.Error(resp)
	}
	if !c.closedByServer() {
		t.Error("still open")
	}
}

// Behaviour 23, as far as codes are concerned: duplicates succeed with their first offset, gaps and old epochs do not.
func TestBehaviour23Idempotence(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	send := func(epoch int16, sequence int32) kmsg.ProduceResponseTopicPartition {
		return c.tryProduce(9, produceRequest("t", 0, -1, batchOf(func(o *batch.Options) {
			o.ProducerID, o.ProducerEpoch, o.BaseSequence = 4001, epoch, sequence
		}, "v")))
	}
	for _, step := range []struct {
		epoch    int16
		sequence int32
		code     int16
		offset   int64
	}{{0, 0, 0, 0}, {0, 1, 0, 1}, {0, 0, 0, 0}, {0, 5, 45, -1}, {1, 0, 0, 2}, {0, 2, 47, -1}} {
		if p := send(step.epoch, step.sequence); p.ErrorCode != step.code || p.BaseOffset != step.offset {
			t.Errorf("%+v: code %d, offset %d", step, p.ErrorCode, p.BaseOffset)
		}
	}
}

// Many partitions in one request, several of them wrong: each has its own answer.
func TestProduceManyPartitions(t *testing.T) {
	r := newRig(t)
	r.topic("a", 3)
	r.topic("b", 2)
	c := r.dial()
	for range 3 { // the pooled request is used again
		req := produceRequest("a", 0, -1, batchOf(nil, "v"))
		for p := int32(1); p < 5; p++ {
			part := kmsg.NewProduceRequestTopicPartition()
			part.Partition, part.Records = p, batchOf(nil, "v")
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, part)
		}
		other := produceRequest("b", 1, -1, batchOf(nil, "w"))
		req.Topics = append(req.Topics, other.Topics...)
		resp := ask(c, 9, req, kmsg.NewPtrProduceResponse())
		got := ""
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				got += fmt.Sprintf("%s-%d:%d ", t.Topic, p.Partition, p.ErrorCode)
			}
		}
		if want := "a-0:0 a-1:0 a-2:0 a-3:3 a-4:3 b-1:0 "; got != want {
			t.Errorf("got %s", got)
		}
	}
}

// BenchmarkProduce is one request of one 1 KiB record at a time, all the way to the flush on a memory file system.
func BenchmarkProduce(b *testing.B) {
	r := newRig(b)
	r.topic("t", 1)
	c := r.dial()
	_ = c.conn.SetDeadline(time.Time{})
	frame := c.frame(9, produceRequest("t", 0, -1, batchOf(nil, string(make([]byte, 1024)))))
	answer := make([]byte, 4096)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		roundTrip(b, c.conn, frame, answer)
	}
}

// roundTrip sends a frame and reads the answer without allocating.
func roundTrip(b *testing.B, nc net.Conn, frame, answer []byte) {
	if _, err := nc.Write(frame); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(nc, answer[:4]); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(nc, answer[:binary.BigEndian.Uint32(answer)]); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkProducePipelined is one record of 1 KiB a request, 16 requests in flight on each of 4 connections, on disk.
func BenchmarkProducePipelined(b *testing.B) {
	r := newRig(b, onDisk(b.TempDir()))
	r.topic("t", 1)
	const connections, depth = 4, 16
	per := b.N/connections + 1
	done := make(chan error, connections)
	b.ReportAllocs()
	b.ResetTimer()
	for range connections {
		c := r.dial()
		_ = c.conn.SetDeadline(time.Time{})
		frame := c.frame(9, produceRequest("t", 0, -1, batchOf(nil, string(make([]byte, 1024)))))
		window := make(chan struct{}, depth)
		go func() {
			for range per {
				window <- struct{}{}
				if _, err := c.conn.Write(frame); err != nil {
					return
				}
			}
		}()
		go func() {
			in := bufio.NewReader(c.conn)
			var head [4]byte
			for range per {
				if _, err := io.ReadFull(in, head[:]); err != nil {
					done <- err
					return
				}
				if _, err := in.Discard(int(binary.BigEndian.Uint32(head[:]))); err != nil {
					done <- err
					return
				}
				<-window
			}
			done <- nil
		}()
	}
	for range connections {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
