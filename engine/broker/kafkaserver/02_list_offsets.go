package kafkaserver

import (
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListOffsets (2), versions 1 to 11: the offset of a timestamp, or of one of the special timestamps: -1 latest (the
// high watermark, or the last stable offset for read_committed), -2 earliest, -3 the record with the greatest timestamp
// (v7), -4 earliest on local disks (v8), -5 latest on remote storage (v9) and -6 earliest that is still to be uploaded
// there (v11), of which there is none. No match is offset -1 and timestamp -1 without an error. A
// partition that is named twice is INVALID_REQUEST.
//
// A leader whose high watermark has not reached the beginning of its epoch has no latest offset yet,
// and cannot say that no record has a timestamp: OFFSET_NOT_AVAILABLE, before version 5 LEADER_NOT_AVAILABLE (Partition.scala, fetchOffsetForTimestamp).
//
// It runs on the connection's reading goroutine and reads indexes, and for timestamps a stretch of log.

const (
	timestampLatest               int64 = -1
	timestampEarliest             int64 = -2
	timestampMax                  int64 = -3
	timestampEarliestLocal        int64 = -4
	timestampLatestTiered         int64 = -5
	timestampEarliestPendingTiers int64 = -6
)

// specialSince is the first version that has a special timestamp.
var specialSince = map[int64]int16{
	timestampLatest: 0, timestampEarliest: 0, timestampMax: 7, timestampEarliestLocal: 8, timestampLatestTiered: 9,
	timestampEarliestPendingTiers: 11,
}

func (s *Server) handle02ListOffsets(r *request) {
	req := r.body.(*kmsg.ListOffsetsRequest)
	snap := s.deps.Catalog.Current()
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.Topics = make([]kmsg.ListOffsetsResponseTopic, 0, len(req.Topics))
	names := named[partitionKey]{}
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			names.first(partitionKey{topic: req.Topics[i].Topic, partition: req.Topics[i].Partitions[j].Partition})
		}
	}
	for i := range req.Topics {
		in := &req.Topics[i]
		topic, code := findTopic(snap, in.Topic, [16]byte{}, false)
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = in.Topic
		out.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, 0, len(in.Partitions))
		for j := range in.Partitions {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.Offset, p.Timestamp, p.LeaderEpoch = in.Partitions[j].Partition, -1, -1, -1
			p.ErrorCode = code
			switch {
			case names[partitionKey{topic: in.Topic, partition: p.Partition}]:
				p.ErrorCode = codeInvalidRequest
			case topic != nil:
				p.ErrorCode = s.listOffset(r.version, req.IsolationLevel == 1, topic, &in.Partitions[j], &p)
			}
			out.Partitions = append(out.Partitions, p)
		}
		resp.Topics = append(resp.Topics, out)
	}
	r.respond(resp)
}

func (s *Server) listOffset(version int16, committed bool, t *catalog.Topic, in *kmsg.ListOffsetsRequestTopicPartition,
	out *kmsg.ListOffsetsResponseTopicPartition) int16 {
	since, known := specialSince[in.Timestamp]
	if in.Timestamp < 0 && (!known || version < since) {
		return codeUnsupportedVersion
	}
	_, v, code := s.findLeader(t, in.Partition)
	if code != codeNone {
		return code
	}
	if err := v.CheckEpoch(in.CurrentLeaderEpoch); err != nil {
		return s.codeOf(err)
	}
	limit := v.HighWatermark
	if committed {
		limit = v.LastStable
	}
	unknown := codeNone // what is said when nothing was found
	if !caughtUp(v) {
		unknown = codeOffsetNotAvailable
		if version < 5 {
			unknown = codeLeaderNotAvailable
		}
	}
	switch in.Timestamp {
	case timestampLatest:
		if unknown != codeNone {
			return unknown
		}
		out.Offset, out.LeaderEpoch = limit, v.LeaderEpoch
	case timestampEarliest, timestampEarliestLocal:
		out.Offset, out.LeaderEpoch = v.Start, v.Log.EpochFor(v.Start)
	case timestampLatestTiered, timestampEarliestPendingTiers:
	case timestampMax:
		found, ok, err := v.Log.MaxTimestamp(limit)
		if err != nil {
			return s.codeOf(err)
		}
		if !ok {
			return unknown
		}
		out.Offset, out.Timestamp, out.LeaderEpoch = found.Offset, found.Timestamp, found.LeaderEpoch
	default:
		found, ok, err := v.Log.OffsetForTimestamp(in.Timestamp, limit)
		if err != nil {
			return s.codeOf(err)
		}
		if !ok {
			return unknown
		}
		out.Offset, out.Timestamp, out.LeaderEpoch = found.Offset, found.Timestamp, found.LeaderEpoch
	}
	return codeNone
}

// caughtUp reports whether the high watermark has reached the beginning of the leader's epoch.
func caughtUp(v *replica.View) bool {
	epochs := v.Log.Epochs()
	n := len(epochs)
	return n == 0 || epochs[n-1].Epoch != v.LeaderEpoch || v.HighWatermark >= epochs[n-1].StartOffset
}
