package kafkaserver

import (
	"fmt"
	"slices"
	"testing"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *client) listOffsets(version int16, topic string, p int32, timestamp int64, change func(*kmsg.ListOffsetsRequest)) kmsg.ListOffsetsResponseTopicPartition {
	c.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.Partition, part.Timestamp, part.CurrentLeaderEpoch = p, timestamp, -1
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	if change != nil {
		change(req)
	}
	return ask(c, version, req, kmsg.NewPtrListOffsetsResponse()).Topics[0].Partitions[0]
}

// Behaviour 34: every special timestamp, and the versions that have it.
func TestBehaviour34ListOffsets(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	r.topic("empty", 1)
	c := r.dial()
	const t0 = 1_700_000_000_000 // batchOf counts timestamps up from here
	c.produce("t", 0, "a", "b", "c")
	c.produce("t", 0, "d") // its timestamp is t0 again
	for _, x := range []struct {
		topic     string
		version   int16
		timestamp int64
		code      int16
		offset    int64
		at        int64
		epoch     int32
	}{
		{"t", 11, -1, 0, 4, -1, 1},
		{"t", 11, -2, 0, 0, -1, 1},
		{"t", 11, -3, 0, 2, t0 + 2, 1},
		{"t", 11, -4, 0, 0, -1, 1},
		{"t", 11, -5, 0, -1, -1, -1},
		{"t", 11, -6, 0, -1, -1, -1},
		{"t", 11, -7, 35, -1, -1, -1},
		{"t", 10, -6, 35, -1, -1, -1},
		{"t", 8, -5, 35, -1, -1, -1},
		{"t", 7, -4, 35, -1, -1, -1},
		{"t", 6, -3, 35, -1, -1, -1},
		{"t", 11, 0, 0, 0, t0, 1},
		{"t", 11, t0 + 1, 0, 1, t0 + 1, 1},
		{"t", 11, t0 + 3, 0, -1, -1, -1},
		{"empty", 11, -1, 0, 0, -1, 1},
		{"empty", 11, -2, 0, 0, -1, -1},
		{"empty", 11, -3, 0, -1, -1, -1},
		{"empty", 11, 5, 0, -1, -1, -1},
		{"nowhere", 11, -1, 3, -1, -1, -1},
	} {
		t.Run(fmt.Sprint(x.topic, x.version, x.timestamp), func(t *testing.T) {
			p := c.listOffsets(x.version, x.topic, 0, x.timestamp, nil)
			if x.topic == "empty" && x.timestamp == -2 {
				x.epoch = p.LeaderEpoch // Kafka gives the epoch of the next record or none
			}
			if p.ErrorCode != x.code || p.Offset != x.offset || p.Timestamp != x.at || p.LeaderEpoch != x.epoch {
				t.Errorf("%+v", p)
			}
		})
	}
	for version := int16(1); version <= 11; version++ {
		if p := c.listOffsets(version, "t", 0, -1, func(req *kmsg.ListOffsetsRequest) { req.IsolationLevel = 1 }); p.Offset != 4 || p.ErrorCode != 0 {
			t.Errorf("v%d: %+v", version, p)
		}
	}
	for epoch, code := range map[int32]int16{0: 74, 1: 0, 2: 75} {
		p := c.listOffsets(7, "t", 0, -1, func(req *kmsg.ListOffsetsRequest) { req.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch })
		if p.ErrorCode != code {
			t.Errorf("epoch %d: %+v", epoch, p)
		}
	}
}

// behindReplicas shows leaders whose high watermark is before the beginning of their epoch.
type behindReplicas struct{ Replicas }

type behindReplica struct{ Replica }

func (b behindReplicas) Lookup(topic string, p int32) (Replica, error) {
	rep, err := b.Replicas.Lookup(topic, p)
	return behindReplica{rep}, err
}

func (b behindReplica) View() *replica.View {
	v := *b.Replica.View()
	v.HighWatermark, v.LastStable = -1, -1
	return &v
}

// A new leader that has not caught up cannot say what the latest offset is, nor that no record has a timestamp: a
// consumer that is told "none" would begin at the end.
func TestBehaviour34NotCaughtUp(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	r.deps.Replicas = behindReplicas{r.deps.Replicas}
	c := r.dial()
	c.produce("t", 0, "a")
	for timestamp, code := range map[int64]int16{-1: codeOffsetNotAvailable, -2: 0, -3: codeOffsetNotAvailable, -5: 0, 5: codeOffsetNotAvailable} {
		if p := c.listOffsets(11, "t", 0, timestamp, nil); p.ErrorCode != code {
			t.Errorf("%d: %+v", timestamp, p)
		}
	}
	for _, timestamp := range []int64{-1, 5} {
		if p := c.listOffsets(4, "t", 0, timestamp, nil); p.ErrorCode != codeLeaderNotAvailable {
			t.Errorf("v4: %d: %+v", timestamp, p)
		}
	}
}

// Behaviour 33: OffsetForLeaderEpoch. librdkafka asks exactly version 2.
func TestBehaviour33OffsetForLeaderEpoch(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	c.produce("t", 0, "a", "b")
	led := make(chan error, 1)
	r.replica("t", 0).Lead(4, partition.Membership{InSync: []int32{1}}, func(_ int32, err error) { led <- err })
	if err := <-led; err != nil {
		t.Fatal(err)
	}
	c.produce("t", 0, "c")
	for _, version := range []int16{2, 3, 4} {
		for _, x := range []struct {
			asked, current int32
			code           int16
			epoch          int32
			end            int64
		}{{0, -1, 0, 0, 0}, {1, -1, 0, 1, 2}, {3, 4, 0, 1, 2}, {4, 4, 0, 4, 3}, {9, -1, 0, -1, -1}, {4, 3, 74, -1, -1}, {4, 5, 75, -1, -1}} {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			req.ReplicaID = -1
			part := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			part.CurrentLeaderEpoch, part.LeaderEpoch = x.current, x.asked
			topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
			topic.Topic = "t"
			topic.Partitions = append(topic.Partitions, part)
			req.Topics = append(req.Topics, topic)
			p := ask(c, version, req, kmsg.NewPtrOffsetForLeaderEpochResponse()).Topics[0].Partitions[0]
			if p.ErrorCode != x.code || p.LeaderEpoch != x.epoch || p.EndOffset != x.end {
				t.Errorf("v%d: %+v: %+v", version, x, p)
			}
		}
	}
}

// Behaviour 37: DeleteRecords.
func TestBehaviour37DeleteRecords(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	r.topic("compacted", 1, "cleanup.policy", "compact")
	r.topic("__consumer_offsets", 1)
	c := r.dial()
	c.produce("t", 0, "a", "b")
	c.produce("t", 0, "c", "d")
	remove := func(topic string, p int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
		req := kmsg.NewPtrDeleteRecordsRequest()
		part := kmsg.NewDeleteRecordsRequestTopicPartition()
		part.Partition, part.Offset = p, offset
		topicReq := kmsg.NewDeleteRecordsRequestTopic()
		topicReq.Topic = topic
		topicReq.Partitions = append(topicReq.Partitions, part)
		req.Topics = append(req.Topics, topicReq)
		return ask(c, 2, req, kmsg.NewPtrDeleteRecordsResponse()).Topics[0].Partitions[0]
	}
	for _, x := range []struct {
		topic  string
		p      int32
		offset int64
		code   int16
		low    int64
	}{
		{"t", 0, 1, 0, 1}, {"t", 0, 0, 0, 1}, {"t", 0, 5, 1, -1}, {"t", 0, -2, 1, -1}, {"t", 0, -1, 0, 4},
		{"t", 3, 0, 3, -1}, {"nowhere", 0, 0, 3, -1}, {"compacted", 0, 0, 44, -1}, {"__consumer_offsets", 0, 0, 17, -1},
	} {
		if p := remove(x.topic, x.p, x.offset); p.ErrorCode != x.code || p.LowWatermark != x.low {
			t.Errorf("%+v: %+v", x, p)
		}
	}
	if p := c.listOffsets(7, "t", 0, -2, nil); p.Offset != 4 {
		t.Errorf("earliest: %+v", p)
	}
	if req := kmsg.NewPtrDeleteRecordsRequest(); len(ask(c, 0, req, kmsg.NewPtrDeleteRecordsResponse()).Topics) != 0 {
		t.Error("nothing was asked")
	}
}

// Behaviour 46, without transactions: a fresh id each time; a transactional id is refused for good.
func TestBehaviour46InitProducerID(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for version := int16(0); version <= 5; version++ {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.ProducerID, req.ProducerEpoch = 17, 3
		resp := ask(c, version, req, kmsg.NewPtrInitProducerIDResponse())
		if resp.ErrorCode != 0 || resp.ProducerID != 4001+int64(version) || resp.ProducerEpoch != 0 {
			t.Errorf("v%d: %+v", version, resp)
		}
		for id, code := range map[string]int16{"": 42, "tx": 53} {
			req.TransactionalID = &id
			if resp := ask(c, version, req, kmsg.NewPtrInitProducerIDResponse()); resp.ErrorCode != code || resp.ProducerID != -1 {
				t.Errorf("v%d: %q: %+v", version, id, resp)
			}
		}
	}
}

func TestDescribeProducers(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	c := r.dial()
	c.tryProduce(9, produceRequest("t", 0, -1, batchOf(func(o *batch.Options) { o.ProducerID, o.ProducerEpoch, o.BaseSequence = 5, 2, 0 }, "a", "b")))
	req := kmsg.NewPtrDescribeProducersRequest()
	req.Topics = append(req.Topics, kmsg.DescribeProducersRequestTopic{Topic: "t", Partitions: []int32{0, 4}},
		kmsg.DescribeProducersRequestTopic{Topic: "nowhere", Partitions: []int32{0}})
	resp := ask(c, 0, req, kmsg.NewPtrDescribeProducersResponse())
	p := resp.Topics[0].Partitions
	if p[0].ErrorCode != 0 || len(p[0].ActiveProducers) != 1 || p[1].ErrorCode != 3 || resp.Topics[1].Partitions[0].ErrorCode != 3 {
		t.Fatalf("%+v", resp)
	}
	if a := p[0].ActiveProducers[0]; a.ProducerID != 5 || a.ProducerEpoch != 2 || a.LastSequence != 1 || a.CurrentTxnStartOffset != -1 {
		t.Errorf("%+v", a)
	}
}

func TestAlterReplicaLogDirs(t *testing.T) {
	r := newRig(t)
	r.topic("b", 2)
	c := r.dial()
	dirs := ask(c, 1, kmsg.NewPtrDescribeLogDirsRequest(), kmsg.NewPtrDescribeLogDirsResponse()).Dirs
	for version := int16(1); version <= 2; version++ {
		req := kmsg.NewPtrAlterReplicaLogDirsRequest()
		for _, path := range []string{dirs[0].Dir, dirs[1].Dir, "/nowhere"} {
			d := kmsg.NewAlterReplicaLogDirsRequestDir()
			d.Dir = path
			d.Topics = []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "b", Partitions: []int32{1, 7}}}
			req.Dirs = append(req.Dirs, d)
		}
		resp := ask(c, version, req, kmsg.NewPtrAlterReplicaLogDirsResponse())
		var codes []int16
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				codes = append(codes, p.ErrorCode)
			}
		}
		// Where it is, not on this box, twice a directory that has failed, twice one that is not there.
		if want := []int16{0, 9, 56, 56, 57, 57}; len(resp.Topics) != 1 || !slices.Equal(codes, want) {
			t.Errorf("v%d: %v in %d topics, want %v", version, codes, len(resp.Topics), want)
		}
	}
}

func TestDescribeLogDirs(t *testing.T) {
	r := newRig(t)
	r.topic("b", 2)
	r.topic("a", 1)
	c := r.dial()
	c.produce("b", 1, "v")
	for version := int16(1); version <= 4; version++ {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		resp := ask(c, version, req, kmsg.NewPtrDescribeLogDirsResponse())
		d := resp.Dirs[0]
		if len(resp.Dirs) != 2 || len(d.Topics) != 2 || d.Topics[0].Topic != "a" || len(d.Topics[1].Partitions) != 2 || d.Topics[1].Partitions[1].Size == 0 {
			t.Errorf("v%d: %+v", version, resp)
		}
		if resp.Dirs[1].ErrorCode != 56 || len(resp.Dirs[1].Topics) != 0 {
			t.Errorf("v%d: failed directory: %+v", version, resp.Dirs[1])
		}
		if version >= 4 && (d.TotalBytes != 1000 || d.UsableBytes != 400) {
			t.Errorf("%+v", d)
		}
		req.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: "b", Partitions: []int32{1}}}
		if d := ask(c, version, req, kmsg.NewPtrDescribeLogDirsResponse()).Dirs[0]; len(d.Topics) != 1 || len(d.Topics[0].Partitions) != 1 {
			t.Errorf("v%d: named: %+v", version, d)
		}
	}
}
