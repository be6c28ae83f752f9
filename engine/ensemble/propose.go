package ensemble

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/znode"
)

// proposal is one write from its arrival to its completion.
type proposal struct {
	write Write
	done  func(znode.Outcome, error)
	// grant and out are set for a session that is being created: out holds it from the moment at which it exists.
	grant func(Grant, error)
	out   Outbox
	bytes int64
	room  int64
}

// originBytes precede the entry in the raft log: a version byte, the box, its process's incarnation, the request id.
// They tell a box that applies the entry whether somebody waits here for the outcome.
const (
	originVersion = 1
	originBytes   = 1 + 3*8
)

type origin struct{ box, incarnation, request uint64 }

func (o origin) append(dst []byte) []byte {
	dst = append(dst, originVersion)
	dst = binary.BigEndian.AppendUint64(dst, o.box)
	dst = binary.BigEndian.AppendUint64(dst, o.incarnation)
	return binary.BigEndian.AppendUint64(dst, o.request)
}

// decodeProposal splits a log entry's data. The entry may alias b.
func decodeProposal(b []byte) (origin, *znode.Entry, error) {
	if len(b) < originBytes || b[0] != originVersion {
		return origin{}, nil, fmt.Errorf("an entry of %d bytes without an origin of version %d", len(b), originVersion)
	}
	o := origin{binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:]), binary.BigEndian.Uint64(b[17:])}
	e := &znode.Entry{}
	if err := e.Unmarshal(b[originBytes:]); err != nil {
		return origin{}, nil, err
	}
	return o, e, nil
}

// propose checks, stamps and gathers one write. All that is gathered in a step becomes one append.
func (o *owner) propose(p *proposal) {
	if err := o.admit(p); err != nil {
		p.done(znode.Outcome{}, err)
		return
	}
	o.stamp(&p.write.Entry)
	from := origin{o.e.cfg.Box, o.incarnation, o.nextRequest}
	data := p.write.Entry.Marshal(from.append(make([]byte, 0, originBytes+entryRoom(&p.write.Entry))))
	if len(data) > o.e.cfg.Limits.ProposalBytesMax {
		p.done(znode.Outcome{}, fmt.Errorf("a write of %d bytes: %w", len(data), ErrTooLarge))
		return
	}
	// An entry that is in the log must be applied, by this process and by every one that replays it.
	if err := new(znode.Entry).Unmarshal(data[originBytes:]); err != nil {
		p.done(znode.Outcome{}, fmt.Errorf("a write that could not be applied: %w: %w", ErrTooLarge, err))
		return
	}
	p.bytes = int64(len(data))
	if o.pendingBytes+p.bytes > o.e.cfg.Limits.ProposalsBytesMax {
		p.done(znode.Outcome{}, fmt.Errorf("%d bytes of proposals in flight: %w", o.pendingBytes, ErrFull))
		return
	}
	o.nextRequest++
	o.pending[from.request] = p
	o.pendingBytes += p.bytes
	o.pendingRoom += p.room
	o.gathered = append(o.gathered, &pb.Entry{Data: data})
	o.e.metrics.proposals.Inc()
	o.e.metrics.proposalSize(len(data))
}

// admit says why a write is not proposed.
func (o *owner) admit(p *proposal) error {
	if !o.ready {
		if o.lead == 0 || o.lead == o.e.cfg.Box {
			return ErrNoQuorum
		}
		return ErrNotLeader
	}
	if len(o.pending) >= o.e.cfg.Limits.ProposalsMax {
		return fmt.Errorf("%d proposals in flight: %w", len(o.pending), ErrFull)
	}
	entry := &p.write.Entry
	if err := o.holds(entry.Session, p.write.From); err != nil {
		return err
	}
	if entry.Kind == znode.KindCreateSession {
		if n := o.e.tree.SessionCount() + len(o.pending); n >= o.e.cfg.Limits.SessionsMax {
			return fmt.Errorf("%d sessions: %w", n, ErrFull)
		}
	}
	p.room = o.e.tree.WouldGrow(entry)
	if p.room == 0 {
		return nil
	}
	budget := o.e.cfg.Limits.TreeBytesMax
	if entry.Flags&znode.FlagInternal != 0 {
		budget += budget / 8 // what the boxes need to agree on must not be crowded out by what clients store
	}
	if used := o.e.tree.Bytes() + o.pendingRoom; used+p.room > budget {
		return fmt.Errorf("%d bytes of %d used and %d more asked for: %w", used, budget, p.room, ErrTreeFull)
	}
	return nil
}

// holds refuses a connection that does not hold the session any more. A session that is gone is the tree's to judge.
func (o *owner) holds(session int64, from Outbox) error {
	if from == nil {
		return nil
	}
	o.e.mu.RLock()
	defer o.e.mu.RUnlock()
	if a := o.e.attached[session]; a != nil && a.out == from {
		return nil
	}
	if _, open := o.e.tree.Session(session); !open {
		return nil
	}
	return fmt.Errorf("session 0x%x: %w", session, ErrSessionMoved)
}

// stamp writes the leader's part into the entry. The leader's time never goes back, whatever its clock does.
func (o *owner) stamp(e *znode.Entry) {
	o.stampMs = max(o.stampMs, o.e.tree.TimeMs(), o.now.UnixMilli())
	e.TimeMs = o.stampMs
	e.Rules = o.e.tree.Rules()
	if e.Kind != znode.KindExpireSession && e.Kind != znode.KindExpireBox {
		e.Box = o.e.cfg.Box
	}
	e.Flags |= o.e.cfg.Flags
}

// entryRoom is about how long an entry is when encoded.
func entryRoom(e *znode.Entry) int {
	n := 96 + len(e.Data)
	for i := range e.Ops {
		n += 48 + len(e.Ops[i].Path) + len(e.Ops[i].Data) + 48*len(e.Ops[i].ACL)
	}
	return n + 64*len(e.Auth)
}

// hand gives raft what was gathered. What raft drops was never appended.
func (o *owner) hand() {
	if len(o.gathered) == 0 || o.over {
		return
	}
	entries := o.gathered
	o.gathered = nil
	if err := o.node.Step(&pb.Message{Type: pb.MsgProp.Enum(), From: new(o.e.cfg.Box), Entries: entries}); err == nil {
		return
	}
	for _, entry := range entries {
		request := binary.BigEndian.Uint64(entry.GetData()[17:])
		if p := o.settle(request); p != nil {
			p.done(znode.Outcome{}, ErrNotLeader)
		}
	}
}

// settle takes a proposal out of what is in flight.
func (o *owner) settle(request uint64) *proposal {
	p := o.pending[request]
	if p == nil {
		return nil
	}
	delete(o.pending, request)
	o.pendingBytes -= p.bytes
	o.pendingRoom -= p.room
	return p
}

// failPending answers everything in flight, in the order of arrival.
func (o *owner) failPending(err error) {
	requests := make([]uint64, 0, len(o.pending))
	for request := range o.pending {
		requests = append(requests, request)
	}
	slices.Sort(requests)
	for _, request := range requests {
		o.settle(request).done(znode.Outcome{}, err)
	}
	o.gathered = nil
}

// internal proposes a write of the box itself. done may be nil.
func (o *owner) internal(e znode.Entry, done func(znode.Outcome, error)) {
	if done == nil {
		done = func(znode.Outcome, error) {}
	}
	e.Flags |= znode.FlagInternal
	o.propose(&proposal{write: Write{Entry: e}, done: done})
}

// ensureSecret gives a new tree the secret that session passwords are made with.
func (o *owner) ensureSecret() {
	if o.secretRun || o.e.tree.HasSecret() {
		return
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(o.e.deps.Random, secret); err != nil {
		o.fail(fmt.Errorf("make the cluster's session secret: %w", err))
		return
	}
	o.secretRun = true
	o.internal(znode.Entry{Kind: znode.KindSetSecret, Data: secret}, func(znode.Outcome, error) { o.secretRun = false })
}
