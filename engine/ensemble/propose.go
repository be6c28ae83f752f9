package ensemble

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/znode"
)

// proposal is one write from its arrival to its completion. On the leader there are also those of other boxes, which have
// no completion here.
type proposal struct {
	write Write
	from  origin
	done  func(znode.Outcome, error)
	// grant and out are set for a session that is being created: out holds it from the moment at which it exists.
	grant func(Grant, error)
	out   Outbox
	bytes int64
	room  int64
	// offered is when this box, leading, proposed it.
	offered time.Duration
	// sent is when it was handed to the leader; 0 for what this box proposes itself.
	sent time.Duration
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

// propose takes a write of this box: it is proposed here when this box leads, handed to the leader when another does, and
// parked while there is none to hand it to and one may come soon.
func (o *owner) propose(p *proposal) {
	if err := o.admit(p); err != nil {
		o.abandon(p, err)
		return
	}
	p.from = origin{o.e.cfg.Box, o.incarnation, o.nextRequest}
	o.nextRequest++
	switch o.course() {
	case courseLead:
		if err := o.offer(p); err != nil {
			o.abandon(p, err)
		}
	case courseForward:
		if err := o.forward(p); err != nil {
			o.abandon(p, err)
		}
	case coursePark:
		o.park(p)
	default:
		o.abandon(p, ErrNoQuorum)
	}
}

// park keeps a write that nobody can propose now.
func (o *owner) park(p *proposal) {
	p.bytes = int64(entryRoom(&p.write.Entry))
	o.pendingBytes += p.bytes
	o.parked = append(o.parked, p)
}

// course is what becomes of a write now.
type course uint8

const (
	courseNone    course = iota // there is no leader, and this box does not wait for one
	courseLead                  // this box leads and knows all that was committed before
	courseForward               // another box leads
	coursePark                  // a leader is expected
)

func (o *owner) course() course {
	switch {
	case o.differs != nil:
		return courseNone
	case len(o.leaving.done) > 0:
		return coursePark
	case o.ready:
		return courseLead
	case o.lead != raft.None && o.lead != o.id:
		return courseForward
	case o.role == raft.StateLeader || o.e.serving.Load():
		return coursePark // an election: nothing is lost yet, and the clients are still here
	}
	return courseNone
}

// unpark goes on with what waited for a leader, in its order, or refuses it when the wait is over.
func (o *owner) unpark() {
	if len(o.parked) == 0 || o.course() == coursePark {
		return
	}
	parked := o.parked
	o.parked = nil
	for _, p := range parked {
		o.pendingBytes -= p.bytes
		if p.from.box == o.e.cfg.Box {
			o.propose(p)
		} else if err := o.offer(p); err != nil {
			o.refuseForward(p.from, err)
		}
	}
}

// dropParkedForwards forgets what others handed to this box before it could propose it, and now cannot.
func (o *owner) dropParkedForwards() {
	o.parked = slices.DeleteFunc(o.parked, func(p *proposal) bool {
		if p.from.box == o.e.cfg.Box {
			return false
		}
		o.pendingBytes -= p.bytes
		return true
	})
}

// admit says why this box takes no write now. The connection that asks must hold the session.
func (o *owner) admit(p *proposal) error {
	if n := len(o.pending) + len(o.parked); n >= o.e.cfg.Limits.ProposalsMax {
		return fmt.Errorf("%d proposals in flight: %w", n, ErrFull)
	}
	if room := int64(entryRoom(&p.write.Entry)); o.pendingBytes+room > o.e.cfg.Limits.ProposalsBytesMax {
		return fmt.Errorf("%d bytes of proposals in flight: %w", o.pendingBytes, ErrFull)
	}
	return o.holds(&p.write)
}

// offer checks, stamps and gathers one write, of this box or another. All that is gathered becomes one append.
func (o *owner) offer(p *proposal) error {
	o.judgeReconfig(p)
	if err := o.afford(p); err != nil {
		return err
	}
	o.stamp(p)
	data, err := o.encode(p, p.from.append(make([]byte, 0, originBytes+entryRoom(&p.write.Entry))))
	if err != nil {
		return err
	}
	o.keepPending(p, len(data))
	o.gathered = append(o.gathered, &pb.Entry{Data: data})
	waited := time.Duration(0)
	if p.from.box != o.e.cfg.Box {
		waited = o.gathering.delay
	}
	o.gathering.add(o.now.Mono, waited, p.write.Entry.Session, len(data))
	p.offered = o.now.Mono
	o.e.metrics.proposals.Inc()
	o.e.metrics.proposalSize(len(data))
	return nil
}

// encode appends the write to its head. An entry that is in the log must be applied, by this process and by every one that
// replays it: what could not be read again is refused here.
func (o *owner) encode(p *proposal, head []byte) ([]byte, error) {
	data := p.write.Entry.Marshal(head)
	if len(data) > o.e.cfg.Limits.ProposalBytesMax {
		return nil, fmt.Errorf("a write of %d bytes: %w", len(data), ErrTooLarge)
	}
	if err := new(znode.Entry).Unmarshal(data[len(head):]); err != nil {
		return nil, fmt.Errorf("a write that could not be applied: %w: %w", ErrTooLarge, err)
	}
	return data, nil
}

func (o *owner) keepPending(p *proposal, bytes int) {
	p.bytes = int64(bytes)
	o.pending[p.from] = p
	o.pendingBytes += p.bytes
	o.pendingRoom += p.room
}

// afford says why the leader does not propose a write.
func (o *owner) afford(p *proposal) error {
	if len(o.pending) >= o.e.cfg.Limits.ProposalsMax {
		return fmt.Errorf("%d proposals in flight: %w", len(o.pending), ErrFull)
	}
	entry := &p.write.Entry
	if entry.Kind == znode.KindCreateSession {
		if n := o.e.tree.SessionCount() + len(o.pending); n >= o.e.cfg.Limits.SessionsMax {
			return fmt.Errorf("%d sessions: %w", n, ErrFull)
		}
	}
	p.room = o.e.tree.WouldGrow(entry)
	if p.room == 0 {
		return nil
	}
	budget, used := o.e.cfg.Limits.TreeBytesMax, o.e.tree.Bytes()+o.pendingRoom
	switch {
	case entry.Kind == znode.KindStage:
		used += o.e.tree.StagedBytes() - o.e.tree.Bytes() // it is to take the tree's place, not to stand beside it
	case entry.Flags&znode.FlagInternal != 0:
		budget += budget / 8 // what the boxes need to agree on must not be crowded out by what clients store
	}
	if used+p.room > budget {
		return fmt.Errorf("%d bytes of %d used and %d more asked for: %w", used, budget, p.room, ErrTreeFull)
	}
	return nil
}

// session is the one that asks.
func (w *Write) session() int64 {
	if w.Local != 0 {
		return w.Local
	}
	return w.Entry.Session
}

// holds refuses a connection that does not hold the session any more. A session that is gone is the tree's to judge.
func (o *owner) holds(w *Write) error {
	session, from := w.session(), w.From
	if from == nil {
		return nil
	}
	o.e.mu.RLock()
	defer o.e.mu.RUnlock()
	if a := o.e.attached[session]; a != nil && a.out == from && !a.refused {
		return nil
	}
	if _, open := o.e.tree.Session(session); !open && w.Local == 0 {
		return nil
	}
	return fmt.Errorf("session 0x%x: %w", session, ErrSessionMoved)
}

// stamp writes the leader's part into the entry. The leader's time never goes back, whatever its clock does.
func (o *owner) stamp(p *proposal) {
	e := &p.write.Entry
	o.stampMs = o.stampNow()
	e.TimeMs = o.stampMs
	if e.Kind != znode.KindSetRules {
		e.Rules = o.e.tree.Rules()
	}
	if e.Kind != znode.KindExpireSession && e.Kind != znode.KindExpireBox {
		e.Box = p.from.box
	}
	e.Flags |= o.e.cfg.Flags
}

// stampNow is the leader's time.
func (o *owner) stampNow() int64 { return max(o.stampMs, o.e.tree.TimeMs(), o.now.UnixMilli()) }

// entryRoom is about how long an entry is when encoded.
func entryRoom(e *znode.Entry) int {
	n := 96 + len(e.Data)
	for i := range e.Ops {
		n += 48 + len(e.Ops[i].Path) + len(e.Ops[i].Data) + 48*len(e.Ops[i].ACL)
	}
	return n + 64*len(e.Auth)
}

// hand gives raft, or the leader, what was gathered, unless that is to wait for more. What raft drops was never appended.
func (o *owner) hand() {
	if len(o.gathered) > 0 && (o.course() != courseLead || o.gathering.until(o.now.Mono) <= o.now.Mono) {
		o.handNow()
	}
	o.up.hand(o)
}

func (o *owner) handNow() {
	if len(o.gathered) == 0 || o.over {
		return
	}
	entries := o.gathered
	o.gathered = nil
	o.gathering.handed()
	if err := o.node.Step(&pb.Message{Type: pb.MsgProp.Enum(), From: new(o.id), Entries: entries}); err == nil {
		return
	}
	for _, entry := range entries {
		from, _, err := decodeProposal(entry.GetData())
		if p := o.settle(from); err == nil && p != nil {
			o.decline(p, ErrNotLeader)
		}
	}
}

// decline tells whoever asked for a write that it was not proposed.
func (o *owner) decline(p *proposal, err error) {
	if p.from.box == o.e.cfg.Box {
		o.abandon(p, err)
		return
	}
	o.refuseForward(p.from, err)
}

// abandon answers a write of this box that has no outcome. Its connection ends with it, and holds the session no more from
// now on: what it has sent behind is refused, and does not overtake the write. It may still be answered what it had asked
// before, so that it is told of the session's and this box's end like any other. A full tree is an outcome.
func (o *owner) abandon(p *proposal, err error) {
	if p.write.From != nil && !errors.Is(err, ErrTreeFull) {
		o.e.mu.Lock()
		if a := o.e.attached[p.write.session()]; a != nil && a.out == p.write.From {
			a.refused = true
		}
		o.e.mu.Unlock()
	}
	p.done(znode.Outcome{}, err)
}

// settle takes a proposal out of what is in flight.
func (o *owner) settle(from origin) *proposal {
	p := o.pending[from]
	if p == nil {
		return nil
	}
	delete(o.pending, from)
	o.pendingBytes -= p.bytes
	o.pendingRoom -= p.room
	return p
}

// failPending answers everything of this box that is in flight, in the order of arrival. The boxes that handed over the
// rest learn for themselves that the leader is no more.
func (o *owner) failPending(err error) {
	mine := make([]*proposal, 0, len(o.pending))
	for from, p := range o.pending {
		o.settle(from)
		if from.box == o.e.cfg.Box {
			mine = append(mine, p)
		}
	}
	slices.SortFunc(mine, func(a, b *proposal) int { return cmp.Compare(a.from.request, b.from.request) })
	for _, p := range mine {
		o.abandon(p, err)
	}
	o.gathered = nil
	o.gathering.handed()
	o.up.forget()
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
