package ensemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
)

// A box whose tree differs asks the leader for a snapshot, again and again. The leader brings the newest one that is of use, and
// makes one if there is none. The box applies what its own log holds behind it, puts the tree in the place of its own, sets
// its own snapshots aside, and serves again. Raft is told of nothing: the log did not change.

// errUnwanted: a tree came to a box that has not asked for it, or not since it has the right one.
var errUnwanted = errors.New("not asked for")

// askTreeBeats is after how many heartbeats a box asks again: the leader may have had no snapshot that was of use.
const askTreeBeats = 4

// askForTree asks the leader for a snapshot.
func (o *owner) askForTree() {
	d := o.differs
	if d == nil || d.incoming != nil || o.lead == raft.None || o.lead == o.id || o.now.Mono < d.nextAsk {
		return
	}
	d.nextAsk = o.now.Mono + askTreeBeats*o.e.cfg.HeartbeatInterval
	o.e.deps.Transport.Send(o.leader(), words(frameAsk, d.index, d.right, d.least), false)
}

// takeAsk brings a member whose tree differs a snapshot. It asks again: what cannot be done now is done then.
func (o *owner) takeAsk(box uint64, f *peerFrame) {
	if !o.ready || !o.isMember(box) {
		return
	}
	if _, under := o.disk.sending[box]; under {
		return
	}
	if own, ok := o.digests.At(f.index); ok && own != f.digest {
		o.e.deps.Observer.Log.Error("a member asks for another tree than this box has", "box", box, "index", f.index)
		return
	}
	if latest := o.disk.latest; latest.Index > 0 && latest.Index >= f.least {
		o.disk.sending[box] = raft.None // raft knows nothing of it
		o.e.deps.Transport.SendSnapshot(box, latest.Index, words(frameTree, latest.Index, latest.Term))
		return
	}
	o.disk.wanted = o.disk.wanted || o.applied >= f.least
}

// snapshotHead is what comes with the file of a snapshot.
type snapshotHead struct {
	id   raftlog.SnapshotID
	raft *pb.Message // nil when the box has asked for the tree alone
}

// decodeHead checks what came with a snapshot's file: a message of raft, or frameTree with index and term.
func (e *Ensemble) decodeHead(from uint64, b []byte) (h snapshotHead, err error) {
	switch {
	case len(b) == 0 || len(b) > MessageBytesMax(e.cfg.Limits):
		return h, fmt.Errorf("a snapshot's message of %d bytes from box %d: %w", len(b), from, ErrTooLarge)
	case b[0] == frameTree && len(b) == 1+2*8:
		if !e.wantsTree.Load() {
			return h, fmt.Errorf("a snapshot from box %d: %w", from, errUnwanted)
		}
		h.id = raftlog.SnapshotID{Index: binary.BigEndian.Uint64(b[1:]), Term: binary.BigEndian.Uint64(b[9:])}
	case b[0] == frameRaft:
		if h.raft, err = e.decodeRaft(from, b[1:]); err != nil {
			return h, err
		}
		if h.raft.GetType() != pb.MsgSnap {
			return h, fmt.Errorf("raft message of type %v from box %d with a snapshot's file", h.raft.GetType(), from)
		}
		if h.raft.GetTo() != e.raftID.Load() {
			return h, fmt.Errorf("a snapshot for raft id %d came to raft id %d", h.raft.GetTo(), e.raftID.Load())
		}
		head := h.raft.GetSnapshot().GetMetadata()
		h.id = raftlog.SnapshotID{Index: head.GetIndex(), Term: head.GetTerm()}
	default:
		return h, fmt.Errorf("a snapshot from box %d with a message of kind %d and %d bytes: %w", from, b[0], len(b), errPeerFrame)
	}
	if h.id.Index == 0 {
		return h, fmt.Errorf("a snapshot at index 0 from box %d", from)
	}
	return h, nil
}

// takeTree keeps the tree that this box has asked for.
func (o *owner) takeTree(in *incomingSnapshot) {
	if d := o.differs; d != nil && in.meta.Index >= d.least {
		d.incoming = in
	}
}

// exchange puts the tree that came in the place of the wrong one, once as much was applied here as it holds, and no snapshot
// of the wrong one is being written any more.
func (o *owner) exchange() {
	d := o.differs
	if d == nil || !d.noted || o.snap.running {
		return
	}
	if d.installed.Index > 0 {
		o.trust(d.installed)
		return
	}
	in := d.incoming
	if in == nil || o.applied < in.meta.Index {
		return
	}
	if err := o.catchUpTree(in); err != nil {
		o.e.deps.Observer.Log.Error("the snapshot that came is not continued by the log in memory: another is asked for", "index", in.meta.Index, "error", err)
		d.incoming, d.least, d.nextAsk = nil, o.applied, 0
		o.disk.held = o.applied
		return
	}
	if err := o.e.cfg.runs(in.tree); err != nil {
		o.fail(err)
		return
	}
	o.replaceTree(in.tree)
	if err := o.readMembers(); err != nil {
		o.fail(err)
		return
	}
	o.disk.latest = in.meta
	o.snap.retryAt, o.snap.last = 0, startedFrom(in.meta.Index, in.tree)
	o.e.deps.Observer.Log.Info("went on from the leader's tree", "snapshot", in.meta.Index, "applied", o.applied, "zxid", o.e.tree.Zxid())
	o.trust(in.meta.SnapshotID)
}

// catchUpTree applies to the tree what the log in memory holds behind it. Nobody sees the tree yet.
func (o *owner) catchUpTree(in *incomingSnapshot) error {
	if in.meta.Index == o.applied {
		return nil
	}
	entries, err := o.disk.Entries(in.meta.Index+1, o.applied+1, math.MaxUint64)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := o.e.cfg.replay(in.tree, entry.GetType(), entry.GetData()); err != nil {
			return err
		}
	}
	return nil
}

// replay applies an entry of the log to a tree that nobody sees yet.
func (c *Config) replay(t *znode.Tree, kind pb.EntryType, data []byte) error {
	if kind != pb.EntryNormal || len(data) == 0 {
		return nil
	}
	_, entry, err := decodeProposal(data)
	if err != nil {
		return err
	}
	c.apply(t, entry)
	return nil
}

// trust ends the difference: the snapshot is this box's own from now on, and no other. None is written meanwhile.
func (o *owner) trust(id raftlog.SnapshotID) {
	o.differs, o.digests, o.poll, o.disk.held = nil, keeper.Digests{}, keeper.Poll{}, nothingHeld
	o.e.wantsTree.Store(false)
	o.again = true
	o.snap.running = true
	log := o.log
	var err error
	o.e.deps.Runtime.Spawn("trust", func() { err = log.Trust(id.Index) },
		func() { o.e.box.Post(message{kind: msgTrusted, err: err, occasion: &occasion{trusted: id}}) })
}

// trusted ends the setting aside. Where it failed, the next start asks for the tree once more.
func (o *owner) trusted(id raftlog.SnapshotID, err error) {
	o.snap.running = false
	if err == nil && id.Index > 0 {
		err = o.log.MarkSnapshot(id)
		o.unsynced = true
	}
	if err != nil {
		o.e.deps.Observer.Log.Error("old snapshots of a wrong tree are still there", "error", err)
	}
	o.again = true
}

// trustAlone: where this box is the only voter, there is nobody whose tree could be right instead.
func (o *owner) trustAlone() {
	if !o.differs.noted || o.snap.running || len(o.conf.Voters) != 1 || o.conf.Voters[0] != o.id || len(o.conf.VotersOutgoing) > 0 {
		return
	}
	o.e.deps.Observer.Log.Error("this box's tree was found to differ, and it is the only voter by now: its tree counts")
	var newest raftlog.SnapshotID
	if kept := o.log.Snapshots(); len(kept) > 0 {
		newest = kept[len(kept)-1]
	}
	o.trust(newest)
}

// voters are the servers that vote, those of both sides while that changes.
func (o *owner) voters() []uint64 { return eachServer(o.conf.Voters, o.conf.VotersOutgoing) }

// restoreFrom reads the file of another box's snapshot.
func (e *Ensemble) restoreFrom(h snapshotHead, size int64, r io.Reader) (in *incomingSnapshot, err error) {
	in = &incomingSnapshot{}
	in.meta, err = e.log.ReceiveSnapshot(h.id.Index, size, r, func(_ raftlog.SnapshotMeta, r io.Reader) (err error) {
		in.tree, err = znode.Restore(r)
		return err
	})
	if err == nil && in.meta.Term != h.id.Term {
		err = errors.New("it is of another term")
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %d of term %d: %w", h.id.Index, h.id.Term, err)
	}
	return in, nil
}
