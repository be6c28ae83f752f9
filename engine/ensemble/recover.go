package ensemble

import (
	"errors"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
	"cairn/platform/observe"
)

// RecoveryZxids is what a recovery adds to the zxid: whatever the lost servers may have acknowledged lies below.
const RecoveryZxids = 1 << 32

// Recovery is what Recover did.
type Recovery struct {
	Box          uint64
	RaftID       uint64
	Zxid         int64  // that the tree goes on from
	Entries      uint64 // of the log that nobody knows to be committed, and that were kept
	Nodes        int
	ServersAway  []uint64 // that are to come back with empty directories
	IndexOfStart uint64
}

// Recover makes the box whose directory this is the only voter of its ensemble, from what its own disk holds, when the
// others are lost for good. It is the last resort: what the lost majority had acknowledged and this disk does not hold is
// gone, and if the others still live, two ensembles go on from one tree. The box must not run. The configuration keeps the
// other servers; each comes back as a new member once its directory is empty or set aside.
//
// It may be repeated. Nothing is changed until a new snapshot is whole.
func Recover(cfg Config, deps Deps) (Recovery, error) {
	cfg = cfg.withDefaults()
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	m, err := readMember(cfg, deps)
	if err != nil {
		return Recovery{}, err
	}
	log, r, tree, err := openLog(cfg, deps)
	if err != nil {
		return Recovery{}, err
	}
	out, err := recoverFrom(cfg, log, r, tree, &m)
	if err == nil {
		err = log.Flush()
	}
	if err := errors.Join(err, log.Close()); err != nil {
		return out, fmt.Errorf("recover the ensemble in %s: %w", cfg.Dir, err)
	}
	m.Begun, m.Rejoin = true, ""
	return out, m.write(cfg, deps)
}

func recoverFrom(cfg Config, log *raftlog.Log, r *raftlog.Recovered, tree *znode.Tree, m *member) (Recovery, error) {
	if r.Fresh {
		return Recovery{}, errors.New("there is no log: nothing can be recovered from this directory")
	}
	id := raftlog.SnapshotID{Index: r.Snapshot.Index, Term: max(r.HardState.Term, r.Snapshot.Term)}
	out := Recovery{Box: cfg.Box}
	for i := range r.Entries {
		e := &r.Entries[i]
		id.Index, id.Term = e.Index, max(id.Term, e.Term)
		if e.Index > r.HardState.Commit {
			out.Entries++
		}
		if err := cfg.replay(tree, pb.EntryType(e.Type), e.Data); err != nil {
			return out, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		if err := cfg.runs(tree); err != nil {
			return out, err
		}
	}
	id.Index++
	id.Term++
	roster, servers, err := membersAlone(cfg, tree)
	if err != nil {
		return out, err
	}
	own, _ := roster.Member(cfg.Box)
	roster, _ = roster.Claim(own.Raft, m.Disk)
	for _, entry := range []znode.Entry{
		{Kind: znode.KindAdvanceZxid, Flags: znode.FlagInternal, Zxid: tree.Zxid() + RecoveryZxids},
		{Kind: znode.KindReconfig, Flags: znode.FlagInternal, Data: []byte(servers.Lines()), Ops: rosterOps(roster)},
	} {
		entry.Rules, entry.TimeMs = tree.Rules(), tree.TimeMs()
		if got := cfg.apply(tree, &entry); got.Err != jute.OK {
			return out, fmt.Errorf("an entry of kind %d: %w", entry.Kind, got.Err)
		}
	}
	for _, s := range servers.Servers {
		if uint64(s.ID) != cfg.Box {
			out.ServersAway = append(out.ServersAway, uint64(s.ID))
		}
	}
	out.RaftID, out.Zxid, out.Nodes, out.IndexOfStart = own.Raft, tree.Zxid(), tree.NodeCount(), id.Index
	m.Raft = own.Raft
	return out, goOnFrom(log, tree, raftlog.SnapshotMeta{SnapshotID: id, ConfState: raftlog.ConfState{Voters: []uint64{own.Raft}}})
}

// membersAlone is the roster in which this box votes alone and every other server waits to come anew.
func membersAlone(cfg Config, tree *znode.Tree) (quorum.Roster, quorum.Config, error) {
	roster, servers, known, err := membersIn(tree)
	if err == nil && !known {
		err = errors.New("the tree knows of no other servers: this box is alone, and there is nothing to recover from")
	}
	if err != nil {
		return roster, servers, err
	}
	for i := range servers.Servers {
		if servers.Servers[i].ID == int64(cfg.Box) {
			servers.Servers[i].Observer = false
		}
	}
	if _, ok := servers.Server(int64(cfg.Box)); !ok {
		return roster, servers, fmt.Errorf("server %d does not belong to the ensemble any more: recover another one", cfg.Box)
	}
	return roster.Alone(servers), servers, nil
}

// goOnFrom makes a tree the snapshot that the log continues.
func goOnFrom(log *raftlog.Log, tree *znode.Tree, meta raftlog.SnapshotMeta) error {
	file, err := log.CreateSnapshot(meta)
	if err != nil {
		return err
	}
	defer file.Abort()
	cut, err := tree.Cut()
	if err != nil {
		return err
	}
	defer cut.Close()
	if err := cut.CopyTo(file, snapshotChunkBytes); err != nil {
		return err
	}
	if _, err := file.Commit(); err != nil {
		return err
	}
	hard := raftlog.HardState{Term: meta.Term, Commit: meta.Index}
	if err := log.Append(raftlog.Batch{HardState: &hard}); err != nil {
		return err
	}
	return log.MarkSnapshot(meta.SnapshotID)
}
