package ensemble

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// apply applies one committed batch under one hold of the write lock. For each entry: the tree changes, the watches of
// this box's connections fire, and whoever waits for the entry is told; a client's events and replies are thereby queued
// in the order of the zxids. Subscribers are told once, at the end, with the tree of the whole batch.
func (o *owner) apply(entries []*pb.Entry) {
	if len(entries) == 0 {
		return
	}
	o.applyLocked(entries)
	o.logOverQuota()
	if o.doomed != nil {
		o.fail(o.doomed)
		return
	}
	for _, entry := range entries {
		if entry.GetType() != pb.EntryNormal {
			o.applyConfChange(entry)
		}
	}
	if o.role == raft.StateLeader && !o.ready && o.differs == nil && entries[len(entries)-1].GetTerm() == o.node.BasicStatus().HardState.GetTerm() {
		o.becomeReady()
	}
	o.again = o.again || !o.e.serving.Load() || o.poll.Open() // what was applied may be what the doors wait for
	o.followCatching()
	if err := o.disk.compact(o.applied, o.catchUp(), o.e.cfg.Limits.SnapshotLogBytes); err != nil {
		o.fail(err)
		return
	}
	o.snapshotIfDue()
}

// catchUp is how many applied entries stay in memory for others.
func (o *owner) catchUp() uint64 {
	if o.alone() {
		return 0
	}
	return o.e.cfg.Limits.CatchUpEntries
}

// followCatching notes how far the members have come that were brought a snapshot, and forgets those that are near, or gone.
func (o *owner) followCatching() {
	catching := o.disk.catching
	if o.role != raft.StateLeader {
		o.disk.awaited = nothingHeld
		clear(catching)
	}
	if len(catching) == 0 {
		return
	}
	members := 0
	o.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		index, is := catching[id]
		switch {
		case !is:
		case p.Match+o.catchUp() >= o.applied:
			delete(catching, id)
		default:
			catching[id] = max(index, p.Match)
			members++
		}
	})
	if members < len(catching) {
		clear(catching) // one was removed: the others are met again, at worst by a snapshot
	}
}

func (o *owner) applyLocked(entries []*pb.Entry) {
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	began := o.e.deps.Runtime.Clock().Now().Mono
	for _, entry := range entries {
		if entry.GetIndex() != o.applied+1 {
			o.doom(fmt.Errorf("entry %d follows applied entry %d", entry.GetIndex(), o.applied))
			return
		}
		if entry.GetType() == pb.EntryNormal && len(entry.GetData()) > 0 {
			if err := o.applyEntry(entry.GetData()); err != nil {
				o.doom(fmt.Errorf("apply entry %d: %w", entry.GetIndex(), err))
				return
			}
		}
		o.applied = entry.GetIndex()
		o.snap.entries++
		o.noteDigest()
		o.e.metrics.commits.Inc()
	}
	if o.follows() {
		o.e.metrics.learned.Add(len(entries))
	}
	o.tellSubscribers()
	o.e.metrics.applySeconds.Observe((o.e.deps.Runtime.Clock().Now().Mono - began).Seconds())
}

// doom is fail from under the lock: it notes the cause, and the end comes when the lock is released.
func (o *owner) doom(err error) { o.doomed = err }

// applyEntry applies one entry. The write lock is held.
func (o *owner) applyEntry(data []byte) error {
	from, entry, err := decodeProposal(data)
	if err != nil {
		return err
	}
	p := o.settle(from)
	o.measure(p, entry)
	if from.box != o.e.cfg.Box {
		p = nil // whoever waits for it waits there
	}
	if p != nil && p.write.Before != nil {
		p.write.Before(o.e.tree, o.e.watches)
	}
	outcome := o.e.cfg.apply(o.e.tree, entry)
	o.noteOverQuota(outcome.OverQuota)
	for i := range outcome.Changes {
		o.e.metrics.told(outcome.Changes[i].Kind, o.e.watches.fire(&outcome.Changes[i]))
	}
	o.gather(outcome.Changes)
	if outcome.Replaced {
		o.replaced = true
		o.e.endLocals()
	}
	o.sessionsChanged(entry, &outcome, p)
	if entry.Kind == znode.KindReconfig && outcome.Err == jute.OK {
		if err := o.readMembers(); err != nil {
			return err
		}
	}
	if p != nil {
		o.complete(p, outcome)
	}
	return o.e.cfg.runs(o.e.tree) // it may have raised the rules
}

// sessionsChanged follows sessions that came and went. The write lock is held.
func (o *owner) sessionsChanged(entry *znode.Entry, outcome *znode.Outcome, p *proposal) {
	switch entry.Kind {
	case znode.KindCreateSession:
		if outcome.Session != 0 && p != nil && p.out != nil {
			o.e.attach(outcome.Session, p.out, entry.TimeoutMs)
		}
		o.e.upgraded(outcome.Session)
		o.opened(outcome.Session)
	case znode.KindRegister:
		o.opened(outcome.Session)
	case znode.KindMoveSession:
		o.opened(entry.Session)
		if a := o.e.attached[entry.Session]; a != nil && entry.Box != o.e.cfg.Box && outcome.Err == jute.OK {
			delete(o.e.attached, entry.Session)
			o.e.dismiss(a, entry.Session)
		}
	}
	for _, id := range outcome.Closed {
		o.keep.Closed(id)
		a := o.e.attached[id]
		delete(o.e.attached, id)
		if a == nil || a.out == nil || p != nil && p.write.From == a.out {
			continue // the connection that asked is answered and closes itself
		}
		a.out.Kill(fmt.Errorf("session 0x%x: %w", id, ErrSessionExpired))
	}
}

// opened tells the keeper of a session if there is one of that id.
func (o *owner) opened(id int64) {
	if s, ok := o.e.tree.Session(id); ok {
		o.keepSession(s)
	}
}

// complete tells whoever waits for the outcome.
func (o *owner) complete(p *proposal, outcome znode.Outcome) {
	if p.write.Entry.Kind == znode.KindReconfig && outcome.Err == jute.OK && len(p.write.Entry.Data) > 0 && !o.settled() {
		o.changes.settling = append(o.changes.settling, settling{p, outcome, o.now.Mono + settleMax})
		return
	}
	if p.grant == nil {
		o.finish(p, outcome)
		return
	}
	if outcome.Err != jute.OK {
		p.grant(Grant{}, fmt.Errorf("create a session: %w", outcome.Err))
		return
	}
	p.grant(Grant{Session: outcome.Session, Password: o.e.tree.Password(outcome.Session), TimeoutMs: p.write.Entry.TimeoutMs}, nil)
}

// finish gives an outcome to whoever waits for it. The write lock is held.
func (o *owner) finish(p *proposal, outcome znode.Outcome) {
	p.done(outcome, nil)
	if p.write.After != nil {
		p.write.After(o.e.tree, o.e.watches)
	}
}

// applyConfChange follows a committed change of the membership.
func (o *owner) applyConfChange(entry *pb.Entry) {
	var change pb.ConfChangeI
	var err error
	switch entry.GetType() {
	case pb.EntryConfChange:
		c := &pb.ConfChange{}
		err, change = proto.Unmarshal(entry.GetData(), c), c
	case pb.EntryConfChangeV2:
		c := &pb.ConfChangeV2{}
		err, change = proto.Unmarshal(entry.GetData(), c), c
	default:
		err = errors.New("an entry of an unknown type")
	}
	if err != nil {
		o.fail(fmt.Errorf("apply entry %d of type %v: %w", entry.GetIndex(), entry.GetType(), err))
		return
	}
	was := slices.Contains(o.idsOf(o.e.cfg.Box), o.id)
	o.conf = confOf(o.node.ApplyConfChange(change))
	if was && o.e.deps.Ask != nil && !slices.Contains(o.idsOf(o.e.cfg.Box), o.id) {
		o.rejoin(fmt.Errorf("%w (entry %d of its own log says so)", ErrRemoved, entry.GetIndex()))
		return
	}
	o.disk.confIndex = entry.GetIndex()
	o.changes.changing, o.changes.next, o.again = false, 0, true
	o.answerSettled(false)
}
