package remote

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/replica"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchVersion is the version of Fetch that boxes speak with each other: with topic ids (13) and the epoch of the last record (12).
const fetchVersion = 13

// key names a partition.
type key struct {
	topic     [16]byte
	partition int32
}

// session is a fetch session (KIP-227): what the broker was told of each partition. It ends with its connection. Questions are
// made by one goroutine, answers read by another.
type session struct {
	correlation int32
	told        map[key]replica.Position

	mu      sync.Mutex // protects what follows
	id      int32      // 0: none
	epoch   int32      // of the next question in it
	pending []bool     // of each question on its way: it is whole, and begins a session
}

// next says in which session and epoch a question goes. The first is a whole one, and so is what follows until one is
// answered: nobody knows the session's id before.
func (s *session) next() (id, epoch int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	whole := s.id == 0 || slices.Contains(s.pending, true)
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

// request encodes a question: all of its partitions in a new session, and in one that is there those whose position is
// another than the broker knows, and those that are not asked for any more.
func (s *session) request(q fetcher.Question) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(q.Wait.Milliseconds()), 1, int32(q.BytesMax)
	req.SessionID, req.SessionEpoch = s.next()
	if req.SessionEpoch == 0 {
		s.told = map[key]replica.Position{}
	}
	asked := make(map[key]bool, len(q.Parts))
	for _, p := range q.Parts {
		k := key{p.Topic, p.Partition}
		asked[k] = true
		if at, known := s.told[k]; known && at == p.Position {
			continue
		}
		s.told[k] = p.Position
		if n := len(req.Topics); n == 0 || req.Topics[n-1].TopicID != k.topic {
			t := kmsg.NewFetchRequestTopic()
			t.TopicID = k.topic
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[len(req.Topics)-1]
		part := kmsg.NewFetchRequestTopicPartition()
		part.Partition, part.FetchOffset, part.PartitionMaxBytes = p.Partition, p.Offset, int32(q.BytesMax)
		part.CurrentLeaderEpoch, part.LastFetchedEpoch = p.Epoch, p.LastEpoch
		t.Partitions = append(t.Partitions, part)
	}
	for _, k := range s.forgotten(asked) {
		delete(s.told, k)
		f := kmsg.NewFetchRequestForgottenTopic()
		f.TopicID, f.Partitions = k.topic, []int32{k.partition}
		req.ForgottenTopics = append(req.ForgottenTopics, f)
	}
	req.SetVersion(fetchVersion)
	s.correlation++
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("cairn")).AppendRequest(nil, req, s.correlation)
}

// forgotten are the partitions of the session that are not asked for any more, in order: a simulation's bytes are the same each time.
func (s *session) forgotten(asked map[key]bool) (list []key) {
	for k := range s.told {
		if !asked[k] {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b key) int {
		return cmp.Or(bytes.Compare(a.topic[:], b.topic[:]), cmp.Compare(a.partition, b.partition))
	})
	return list
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
	asked := make(map[key]fetcher.Part, len(q.Parts))
	for _, p := range q.Parts {
		asked[key{p.Topic, p.Partition}] = p
	}
	var answers []fetcher.Answer
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			if p, ok := asked[key{t.TopicID, t.Partitions[j].Partition}]; ok {
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
