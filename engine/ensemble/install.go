package ensemble

import (
	"errors"
	"fmt"
	"io"
	"maps"

	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
)

// incomingSnapshot is the leader's snapshot, on this box's disk and restored beside the tree that is served.
type incomingSnapshot struct {
	meta raftlog.SnapshotMeta
	tree *znode.Tree
}

// OpenSnapshot opens a snapshot that raft wants to be sent to another box.
func (e *Ensemble) OpenSnapshot(index uint64) (*raftlog.SnapshotSource, error) {
	return e.log.OpenSnapshot(index)
}

// ReceiveSnapshot takes the leader's snapshot, raft's or one that this box has asked for: the message that came with it, and
// its file, of which size bytes are read from r. It blocks until the file is durable and restored, and holds one at a time: another is refused with ErrFull. The
// tree that is served stays until raft has taken the message, or until as much was applied here as the file holds.
func (e *Ensemble) ReceiveSnapshot(from uint64, msg []byte, size int64, r io.Reader) error {
	if err := e.refusal(); err != nil && !errors.Is(err, ErrNoQuorum) {
		return err
	}
	head, err := e.decodeHead(from, msg)
	if err != nil {
		return err
	}
	if !e.receiving.CompareAndSwap(false, true) {
		return fmt.Errorf("a snapshot is being received: %w", ErrFull)
	}
	defer e.receiving.Store(false)
	in, err := e.restoreFrom(head, size, r)
	if err != nil {
		return err
	}
	return e.send(message{kind: msgSnapshotCame, box: from, raft: head.raft, occasion: &occasion{incoming: in}})
}

// install goes on from the leader's snapshot, which raft has just taken: the log is told to begin behind it, and its tree
// takes the place of the one that was served. This box's connections end, as their watches were told of nothing that
// happened in between: their clients come back and catch up.
func (o *owner) install(m *pb.Message) error {
	in, head := o.incoming, m.GetSnapshot().GetMetadata()
	if in == nil || in.meta.Index != head.GetIndex() || in.meta.Term != head.GetTerm() {
		return fmt.Errorf("raft wants snapshot %d of term %d, and it has not come", head.GetIndex(), head.GetTerm())
	}
	if err := o.e.cfg.runs(in.tree); err != nil {
		return err
	}
	if m.Term != nil {
		hard := raftlog.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
		if err := o.log.Append(raftlog.Batch{HardState: &hard}); err != nil {
			return err
		}
	}
	if err := o.log.MarkSnapshot(in.meta.SnapshotID); err != nil {
		return err
	}
	if err := o.disk.replace(in.meta, m.GetSnapshot()); err != nil {
		return err
	}
	o.unsynced = true
	o.stopServing(errors.Join(ErrNoQuorum, errReplaced))
	o.up.end(o) // what the snapshot holds of this box's writes, nobody can tell
	o.applied, o.conf = in.meta.Index, in.meta.ConfState.Clone()
	o.snap.entries, o.snap.logBytes, o.snap.retryAt = 0, 0, 0
	o.snap.last = startedFrom(in.meta.Index, in.tree)
	o.replaceTree(in.tree)
	if err := o.readMembers(); err != nil {
		return err
	}
	o.incoming = nil
	if o.differs != nil {
		o.differs.incoming, o.differs.installed = nil, in.meta.SnapshotID
	}
	o.e.deps.Observer.Log.Info("went on from the leader's snapshot", "index", in.meta.Index, "zxid", o.e.tree.Zxid(), "leader", o.leader())
	return nil
}

// replaceTree puts a tree, as of the last applied entry, in the place of the one that was served.
func (o *owner) replaceTree(tree *znode.Tree) {
	o.e.mu.Lock()
	defer o.e.mu.Unlock()
	if tree.Restored() != o.e.tree.Restored() {
		o.e.endLocals() // a backup took the tree's place in between
	}
	o.e.tree = tree
	maps.DeleteFunc(o.e.attached, func(_ int64, a *attachment) bool { return !a.local })
	o.e.appliedIndex = o.applied
	o.digests, o.e.digests = keeper.Digests{}, nil
	for _, s := range o.e.subscribers {
		s.changes = nil
		s.tellAll(o.e.tree, o.applied)
	}
}
