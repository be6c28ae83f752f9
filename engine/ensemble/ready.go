package ensemble

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/raftlog"
	"cairn/platform/syncer"
)

// drain does what raft has ready until it has nothing more. Appending only queues: the flush runs elsewhere, and what
// arrives meanwhile joins the next one.
func (o *owner) drain() {
	for !o.over && o.node.HasReady() {
		rd := o.node.Ready()
		if rd.SoftState != nil {
			o.changeRole(rd.SoftState)
		}
		o.up.follow(o)
		for _, state := range rd.ReadStates {
			o.reads.confirmed(state.RequestCtx, state.Index)
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				o.append(m)
			case raft.LocalApplyThread:
				o.apply(m.GetEntries())
				o.respond(m.GetResponses())
			default:
				o.transmit(m)
			}
		}
		o.reads.answer(o)
	}
	o.flush()
}

// respond delivers the responses that were attached to a storage message.
func (o *owner) respond(responses []*pb.Message) {
	for _, m := range responses {
		if m.GetTo() == o.id {
			_ = o.node.Step(m)
		} else {
			o.transmit(m)
		}
	}
}

// append queues what raft wants to be durable.
func (o *owner) append(m *pb.Message) {
	if m.GetSnapshot() != nil {
		if err := o.install(m); err != nil {
			o.fail(err)
			return
		}
	}
	batch := raftlog.Batch{Entries: make([]raftlog.Entry, len(m.GetEntries()))}
	for i, e := range m.GetEntries() {
		batch.Entries[i] = raftlog.Entry{Index: e.GetIndex(), Term: e.GetTerm(), Type: uint8(e.GetType()), Data: e.GetData()}
		o.snap.logBytes += int64(len(e.GetData()))
	}
	promised := len(m.GetEntries()) > 0
	o.appended += len(m.GetEntries())
	if o.follows() {
		o.e.metrics.received.Add(len(m.GetEntries()))
	}
	if m.Term != nil {
		batch.HardState = &raftlog.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
		if m.GetTerm() != o.term || m.GetVote() != o.vote {
			promised, o.voted = true, o.now.Mono
			if v := m.GetVote(); v != raft.None && v != o.id {
				o.campaignAt = 0 // whoever has this vote is let try: it may wait for a disk, and to stand meanwhile takes it back
			}
		}
		o.term, o.vote = m.GetTerm(), m.GetVote()
	}
	if err := o.log.Append(batch); err != nil {
		o.fail(err)
		return
	}
	if err := o.disk.add(m.GetEntries()); err != nil {
		o.fail(err)
		return
	}
	o.unsynced = o.unsynced || promised
	o.owe(m.GetResponses())
}

// owe sends responses once all that was appended before them is durable. How far the log is committed need not be: the
// leader tells it again. It is written with the next flush, and costs none of its own.
func (o *owner) owe(responses []*pb.Message) {
	switch {
	case o.unsynced:
		o.unflushed = append(o.unflushed, responses...)
	case o.flushing: // what they vouch for is in the flush under way at the latest
		o.inFlight = append(o.inFlight, responses...)
	default:
		o.respond(responses)
	}
}

// flush asks the syncer for a flush, unless one is under way: then its end asks for the next.
func (o *owner) flush() {
	if o.flushing || !o.unsynced || o.over {
		return
	}
	o.flushing, o.unsynced = true, false
	if o.appended > 0 {
		o.e.metrics.flushed.Add(int64(o.appended))
	}
	o.appended, o.flushedAt = 0, o.now.Mono
	o.inFlight, o.unflushed = o.unflushed, o.inFlight[:0]
	box := o.e.box
	o.e.deps.Syncer.Submit(syncer.Raft, o.log, func(err error) { box.Post(message{kind: msgFlushed, err: err}) })
}

// flushed delivers what waited for the flush.
func (o *owner) flushed(err error) {
	o.flushing = false
	o.e.metrics.flushes.Add((o.now.Mono - o.flushedAt).Milliseconds())
	if err != nil {
		o.fail(err)
		return
	}
	responses := o.inFlight
	o.respond(responses)
	clear(responses)
	o.inFlight = responses[:0]
}
