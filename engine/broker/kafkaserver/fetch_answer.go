package kafkaserver

import (
	"cairn/engine/broker/wire"
	"cairn/platform/sockio"
)

// encode writes the answer. Neighbouring partitions of one topic come under one heading; a session's order may have a
// topic twice, which clients accept as Kafka's do.
func (f *fetch) encode() ([]sockio.Part, error) {
	topics := 0
	f.eachTopic(func([]fetchPart, int) { topics++ })
	f.encoder.Begin(f.version, f.r.correlation, codeNone, f.id, topics)
	var named map[int32]bool
	f.eachTopic(func(run []fetchPart, told int) {
		f.encoder.Topic(run[0].name, run[0].id, told)
		for i := range run {
			p := &run[i]
			if !p.tell {
				continue
			}
			out := wire.FetchPartition{
				Partition: p.partition, ErrorCode: p.code, HighWatermark: p.highWatermark, LastStable: p.lastStable,
				LogStart: p.logStart, Aborted: p.aborted, PreferredReplica: p.preferred, Diverging: p.diverging,
			}
			if p.span.Length > 0 {
				out.Records = sockio.Part{File: p.span.File, Position: p.span.Position, Length: int64(p.span.Length)}
			}
			if f.version >= 16 {
				if leader, epoch, ok := f.s.currentLeader(f.snap, p.topic, p.partition, p.code); ok {
					out.CurrentLeader = &wire.FetchLeader{ID: leader, Epoch: epoch}
					if named == nil {
						named = map[int32]bool{}
					}
					named[leader] = true
				}
			}
			f.encoder.Partition(&out)
		}
		f.encoder.EndTopic()
	})
	return f.encoder.End(f.nodesNamed(named))
}

// eachTopic calls do for each run of partitions of one topic that has something to tell.
func (f *fetch) eachTopic(do func(run []fetchPart, told int)) {
	for i := 0; i < len(f.parts); {
		j, told := i, 0
		for j < len(f.parts) && f.parts[j].name == f.parts[i].name && f.parts[j].id == f.parts[i].id {
			if f.parts[j].tell {
				told++
			}
			j++
		}
		if told > 0 {
			do(f.parts[i:j], told)
		}
		i = j
	}
}

func (f *fetch) nodesNamed(named map[int32]bool) []wire.FetchNode {
	if named == nil {
		return nil
	}
	var list []wire.FetchNode
	for _, n := range f.s.nodes(f.r.conn, f.snap) {
		if named[n.id] {
			list = append(list, wire.FetchNode{ID: n.id, Host: n.host, Port: n.port, Rack: n.rack})
		}
	}
	return list
}
