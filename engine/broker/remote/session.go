package remote

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/partition"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchVersion is the version of Fetch that boxes speak with each other: with topic ids (13) and the epoch of the last record (12).
const fetchVersion = 13

// table is what questions have come to: where each partition is asked about from.
type table map[fetcher.Key]fetcher.Part

func (t table) apply(q fetcher.Question) {
	if q.Whole {
		clear(t)
	}
	for _, k := range q.Gone {
		delete(t, k)
	}
	for _, p := range q.Parts {
		t[fetcher.Key{Topic: p.Topic, Partition: p.Partition}] = p
	}
}

// session is a fetch session (KIP-227): what the broker was told of each partition. It ends with its connection. Questions are
// made by one goroutine, answers read by another, and each has its own table: an answer is to a question that may not be the last.
type session struct {
	correlation int32
	told        table // with the questions that were made
	heard       table // with the questions that were answered

	mu      sync.Mutex // protects what follows
	id      int32      // 0: none
	epoch   int32      // of the next question in it
	pending []bool     // of each question on its way: it is whole, and begins a session
}

func newSession() session { return session{told: table{}, heard: table{}} }

// next says in which session and epoch a question goes. The first is a whole one, and so is what follows until one is
// answered: nobody knows the session's id before. anew begins another session.
func (s *session) next(anew bool) (id, epoch int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	whole := anew || s.id == 0 || slices.Contains(s.pending, true)
	s.pending = append(s.pending, whole)
	if whole {
		s.epoch = 1
		return 0, 0
	}
	epoch = s.epoch
	if s.epoch++; s.epoch < 0 { // after 2^31 questions; 0 would begin another session
		s.epoch = 1
	}
	return s.id, epoch
}

// answered takes the session's id from an answer. It reports false when the broker keeps none.
func (s *session) answered(id int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if whole := s.pending[0]; whole {
		s.id = id
	}
	s.pending = s.pending[1:]
	return id != 0
}

var errSession = errors.New("the broker has ended the fetch session")

// request encodes a question: all partitions in a new session, and in one that is there what the question says.
func (s *session) request(q fetcher.Question) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(q.Wait.Milliseconds()), 1, int32(q.BytesMax)
	req.SessionID, req.SessionEpoch = s.next(q.Whole)
	s.told.apply(q)
	if req.SessionEpoch == 0 {
		for _, k := range slices.SortedFunc(maps.Keys(s.told), fetcher.Key.Compare) {
			name(req, s.told[k])
		}
	} else {
		for _, p := range q.Parts {
			name(req, p)
		}
		for _, k := range q.Gone {
			if n := len(req.ForgottenTopics); n == 0 || req.ForgottenTopics[n-1].TopicID != k.Topic {
				f := kmsg.NewFetchRequestForgottenTopic()
				f.TopicID = k.Topic
				req.ForgottenTopics = append(req.ForgottenTopics, f)
			}
			f := &req.ForgottenTopics[len(req.ForgottenTopics)-1]
			f.Partitions = append(f.Partitions, k.Partition)
		}
	}
	req.SetVersion(fetchVersion)
	s.correlation++
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("cairn")).AppendRequest(nil, req, s.correlation)
}

// name adds a partition to a request, under its topic where that comes last.
func name(req *kmsg.FetchRequest, p fetcher.Part) {
	if n := len(req.Topics); n == 0 || req.Topics[n-1].TopicID != p.Topic {
		t := kmsg.NewFetchRequestTopic()
		t.TopicID = p.Topic
		req.Topics = append(req.Topics, t)
	}
	t := &req.Topics[len(req.Topics)-1]
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = p.Partition, p.Offset, req.MaxBytes
	part.CurrentLeaderEpoch, part.LastFetchedEpoch, part.LogStartOffset = p.Epoch, p.LastEpoch, p.LeadStart
	t.Partitions = append(t.Partitions, part)
}

// answer decodes the answer to a question. The batches are parts of the frame.
func (s *session) answer(q fetcher.Question, frame []byte) ([]fetcher.Answer, error) {
	const header = 4 + 1 // correlation id, no tags
	if len(frame) < header || frame[4] != 0 {
		return nil, fmt.Errorf("an answer of %d bytes", len(frame))
	}
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(fetchVersion)
	if err := resp.ReadFrom(frame[header:]); err != nil {
		return nil, fmt.Errorf("decode an answer of %d bytes: %w", len(frame), err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("%w: %w", errSession, err)
	}
	if !s.answered(resp.SessionID) {
		return nil, errSession // asked again, it is asked anew
	}
	s.heard.apply(q)
	var answers []fetcher.Answer
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			k := fetcher.Key{Topic: t.TopicID, Partition: t.Partitions[j].Partition}
			if p, ok := s.heard[k]; ok {
				answers = append(answers, answerOf(p, &t.Partitions[j]))
			}
		}
	}
	return answers, nil
}

// answerOf is what a partition's part of the answer says.
func answerOf(p fetcher.Part, r *kmsg.FetchResponseTopicPartition) fetcher.Answer {
	a := fetcher.Answer{Part: p, Batches: r.RecordBatches}
	a.HighWatermark, a.LogStart = r.HighWatermark, r.LogStartOffset
	switch {
	case r.ErrorCode == kerr.OffsetOutOfRange.Code && r.LogStartOffset >= 0 && (p.Offset < r.LogStartOffset || p.LastEpoch < 0):
		a.Beyond = true
	case r.ErrorCode != 0:
		a.Err = kerr.ErrorForCode(r.ErrorCode)
	case r.DivergingEpoch.EndOffset >= 0:
		a.Diverging = &partition.EpochEnd{Epoch: r.DivergingEpoch.Epoch, End: r.DivergingEpoch.EndOffset}
	}
	return a
}
