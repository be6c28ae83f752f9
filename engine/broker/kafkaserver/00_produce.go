package kafkaserver

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/catalog"
	"cairn/engine/broker/replica"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Produce (0), versions 3 to 13, advertised from 0 (see table.go): appends one batch to each of a number of partitions.
//
// Checked here, before the partition is asked: acks, the topic (by id from version 13 on), leadership, and everything
// about the batch that needs no partition state (produce_check.go). Sequences, epochs and min.insync.replicas are the
// replica's. The answer leaves when all appends are done; requests of one connection are pipelined and answered in
// order. acks=0 has no answer; any error closes the connection then, so that the client looks for the leader again.
//
// An answer that says "not the leader" names the leader from version 10 on (KIP-951). Only the admin client may write
// internal topics.
//
// Not done: transactions (INVALID_TXN_STATE), quotas.

// adminClientID is the client that Kafka lets write internal topics.
const adminClientID = "__admin_client"

// produce is a Produce request under way. It is pooled with everything that it holds.
type produce struct {
	s       *Server
	r       *request
	req     *kmsg.ProduceRequest
	snap    *catalog.Snapshot
	acks    int16
	left    atomic.Int32
	failed  atomic.Bool
	resp    kmsg.ProduceResponse
	appends []*produceAppend
	used    int
	putBack func()
}

// produceAppend is one partition of it.
type produceAppend struct {
	replica.AppendRequest
	p     *produce
	topic *catalog.Topic
	out   *kmsg.ProduceResponseTopicPartition
}

func (s *Server) takeProduce(r *request) *produce {
	p, ok := s.produces.Get().(*produce)
	if !ok {
		p = &produce{s: s}
		p.putBack = p.release
	}
	p.r, p.req, p.snap = r, r.body.(*kmsg.ProduceRequest), s.deps.Catalog.Current()
	p.acks = p.req.Acks
	return p
}

// produceKeepMax is the number of partitions up to which a produce is kept for the next request.
const produceKeepMax = 64

// release gives the produce back to the pool, once its answer was sent.
func (p *produce) release() {
	for _, a := range p.appends[:p.used] {
		a.Batch, a.topic, a.out, a.Err = nil, nil, nil, nil
	}
	p.r, p.req, p.snap, p.used = nil, nil, nil, 0
	p.failed.Store(false)
	if len(p.appends) <= produceKeepMax && cap(p.resp.Topics) <= produceKeepMax {
		p.s.produces.Put(p)
	}
}

func (p *produce) newAppend() *produceAppend {
	if p.used == len(p.appends) {
		a := &produceAppend{p: p}
		a.Done = a.done
		p.appends = append(p.appends, a)
	}
	a := p.appends[p.used]
	p.used++
	return a
}

func (s *Server) handle00Produce(r *request) {
	partitions := 0
	for _, t := range r.body.(*kmsg.ProduceRequest).Topics {
		partitions += len(t.Partitions)
	}
	if partitions > s.limits.ProducePartitionsMax {
		r.closeConn(fmt.Sprintf("%d partitions, allowed %d", partitions, s.limits.ProducePartitionsMax))
		return
	}
	p := s.takeProduce(r)
	p.prepare()
	p.left.Store(int32(p.used) + 1)
	for _, a := range p.appends[:p.used] {
		if a.out.ErrorCode != codeNone {
			p.done1()
			continue
		}
		rep, _, code := s.findLeader(a.topic, a.out.Partition)
		if code != codeNone {
			a.fail(code, nil)
			p.done1()
			continue
		}
		rep.Append(r.context(), &a.AppendRequest)
	}
	p.done1()
}

// prepare lays out the answer and checks every batch.
func (p *produce) prepare() {
	p.resp.Brokers = p.resp.Brokers[:0]
	p.resp.Topics = grow(p.resp.Topics, len(p.req.Topics))
	timeout := time.Duration(max(p.req.TimeoutMillis, 1)) * time.Millisecond
	now := p.s.deps.Clock.Now()
	for i := range p.req.Topics {
		in, out := &p.req.Topics[i], &p.resp.Topics[i]
		topic, code := findTopic(p.snap, in.Topic, in.TopicID, p.r.version >= 13)
		if topic != nil {
			out.Topic, out.TopicID = topic.Name, topic.ID
		} else {
			out.Topic, out.TopicID = strings.Clone(in.Topic), in.TopicID
		}
		switch {
		case p.acks < -1 || p.acks > 1:
			code = codeInvalidRequiredAcks
		case p.req.TransactionID != nil:
			code = codeInvalidTxnState
		case topic != nil && topic.Internal() && p.r.clientID != adminClientID:
			code = codeInvalidTopic
		}
		out.Partitions = grow(out.Partitions, len(in.Partitions))
		for j := range in.Partitions {
			a := p.newAppend()
			a.topic, a.out = topic, &out.Partitions[j]
			*a.out = kmsg.NewProduceResponseTopicPartition()
			a.out.Partition = in.Partitions[j].Partition
			a.out.BaseOffset, a.out.LogAppendTime, a.out.LogStartOffset = -1, -1, -1
			a.Batch, a.Acks, a.Timeout = in.Partitions[j].Records, p.acks, timeout
			a.ExpectedEpoch, a.Internal = replica.Any, false
			if code != codeNone {
				a.fail(code, nil)
				continue
			}
			if err := p.s.checkProduced(a.Batch, topic, p.r.version, now); err != nil {
				a.fail(produceCode(p.s, err), err)
			}
		}
	}
}

// grow makes a slice n long and keeps what its elements hold, for use again.
func grow[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return append(s[:cap(s)], make([]T, n-cap(s))...)
}

// done is the end of one append, on the partition owner's goroutine.
func (a *produceAppend) done(*replica.AppendRequest) {
	a.out.LogStartOffset = a.LogStart
	if a.Err != nil {
		a.fail(produceCode(a.p.s, a.Err), a.Err)
	} else {
		a.out.BaseOffset, a.out.LogAppendTime = a.BaseOffset, a.LogAppendTime
	}
	a.p.done1()
}

// fail writes an error into the answer. The text is for what a producer can do something about (KIP-467).
func (a *produceAppend) fail(code int16, err error) {
	a.p.failed.Store(true)
	a.out.ErrorCode = code
	var record *batch.RecordError
	switch {
	case errors.As(err, &record):
		one := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		text := err.Error()
		one.RelativeOffset, one.ErrorMessage = int32(record.Index), &text
		a.out.ErrorRecords = append(a.out.ErrorRecords, one)
		a.out.ErrorMessage = &text
	case err != nil && (code == codeInvalidRecord || code == codeInvalidTimestamp || code == codeMessageTooLarge):
		text := err.Error()
		a.out.ErrorMessage = &text
	}
}

// done1 counts one partition; after the last one the request is answered.
func (p *produce) done1() {
	if p.left.Add(-1) > 0 {
		return
	}
	if p.acks == 0 {
		r, failed := p.r, p.failed.Load()
		p.release()
		if failed {
			r.closeConn("produce with acks=0 failed")
		} else {
			r.respondNothing()
		}
		return
	}
	if p.failed.Load() && p.r.version >= 10 {
		p.nameLeaders()
	}
	p.r.sent = p.putBack
	p.r.respondOwned(&p.resp)
}

// nameLeaders tells who leads the partitions that this box does not.
func (p *produce) nameLeaders() {
	var named map[int32]bool
	for _, a := range p.appends[:p.used] {
		leader, epoch, ok := p.s.currentLeader(p.snap, a.topic, a.out.Partition, a.out.ErrorCode)
		if !ok {
			continue
		}
		a.out.CurrentLeader.LeaderID, a.out.CurrentLeader.LeaderEpoch = leader, epoch
		if named == nil {
			named = map[int32]bool{}
		}
		named[leader] = true
	}
	if named == nil {
		return
	}
	for _, n := range p.s.nodes(p.r.conn, p.snap) {
		if named[n.id] {
			b := kmsg.NewProduceResponseBroker()
			b.NodeID, b.Host, b.Port, b.Rack = n.id, n.host, n.port, n.rack
			p.resp.Brokers = append(p.resp.Brokers, b)
		}
	}
}
