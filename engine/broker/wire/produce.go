package wire

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AppendProduceResponse appends a whole Produce response frame of versions 3 to 13 to dst: what AppendResponse appends,
// without the reflection and the allocations for each partition that kmsg spends on finding out whether tags are set.
func AppendProduceResponse(dst []byte, correlation int32, resp *kmsg.ProduceResponse) []byte {
	start := len(dst)
	e := encoder{version: resp.Version, flexibleFrom: 9}
	e.buf = appendResponseHeader(dst, correlation, e.flexible())
	e.count(len(resp.Topics))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if resp.Version >= 13 {
			e.buf = append(e.buf, t.TopicID[:]...)
		} else {
			e.string(t.Topic)
		}
		e.count(len(t.Partitions))
		for j := range t.Partitions {
			e.producePartition(&t.Partitions[j])
		}
		e.noTags()
	}
	e.int32(resp.ThrottleMillis)
	switch {
	case !e.flexible():
	case len(resp.Brokers) == 0:
		e.noTags()
	default:
		nodes := make([]FetchNode, 0, len(resp.Brokers))
		for _, b := range resp.Brokers {
			nodes = append(nodes, FetchNode{b.NodeID, b.Host, b.Port, b.Rack})
		}
		e.nodes(0, nodes)
	}
	binary.BigEndian.PutUint32(e.buf[start:], uint32(len(e.buf)-start-4))
	return e.buf
}

func (e *encoder) producePartition(p *kmsg.ProduceResponseTopicPartition) {
	e.int32(p.Partition)
	e.int16(p.ErrorCode)
	e.int64(p.BaseOffset)
	e.int64(p.LogAppendTime)
	if e.version >= 5 {
		e.int64(p.LogStartOffset)
	}
	if e.version >= 8 {
		e.count(len(p.ErrorRecords))
		for i := range p.ErrorRecords {
			e.int32(p.ErrorRecords[i].RelativeOffset)
			e.nullable(p.ErrorRecords[i].ErrorMessage)
			e.noTags()
		}
		e.nullable(p.ErrorMessage)
	}
	if !e.flexible() {
		return
	}
	if p.CurrentLeader.LeaderID == -1 && p.CurrentLeader.LeaderEpoch == -1 {
		e.noTags()
		return
	}
	e.buf = append(e.buf, 1, 0, 4+4+1) // one tag: key, size
	e.int32(p.CurrentLeader.LeaderID)
	e.int32(p.CurrentLeader.LeaderEpoch)
	e.noTags()
}
