package ensemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/znode"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
)

// Open recovers this box's part of the ensemble from its directory and starts it. It returns before the ensemble
// serves: a box that is alone elects itself within two flushes; ReadIndex tells when.
func Open(cfg Config, deps Deps) (*Ensemble, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(deps); err != nil {
		return nil, err
	}
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	e := &Ensemble{cfg: cfg, deps: deps, attached: make(map[int64]*attachment)}
	e.metrics = newMeters(deps.Observer.Metrics)
	e.watches = newWatches(cfg.Limits.WatchesMax, cfg.Limits.WatchesPerConnectionMax)
	if err := e.drawLocals(); err != nil {
		return nil, err
	}
	var m member
	if deps.Ask != nil {
		var err error
		if m, err = readMember(cfg, deps); err != nil {
			return nil, fmt.Errorf("open the ensemble in %s: %w", cfg.Dir, err)
		}
	}
	began := deps.Runtime.Clock().Now().Mono
	log, recovered, tree, err := openLog(cfg, deps)
	if err != nil {
		return nil, err
	}
	e.metrics.opened.Add((deps.Runtime.Clock().Now().Mono - began).Milliseconds())
	e.metrics.loaded.Add(int64(len(recovered.Entries)))
	e.tree = tree
	o, err := e.start(log, recovered, m)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	deps.Observer.Log.Info("ensemble opened", "box", cfg.Box, "snapshot", recovered.Snapshot.Index,
		"entries", len(recovered.Entries), "commit", recovered.HardState.Commit)
	if c := recovered.Cut; c.File != "" {
		deps.Observer.Log.Info("the end of the log was cut", "file", c.File, "at", c.At, "bytes", c.Bytes, "reason", c.Reason)
	}
	for _, name := range recovered.Fallbacks {
		deps.Observer.Log.Error("snapshot damaged and set aside", "file", name)
	}
	e.log = log
	e.box = mailbox.New(deps.Runtime, "ensemble", cfg.Limits.MailboxMax, o)
	e.box.Post(message{kind: msgStart})
	return e, nil
}

// openLog opens the log in the ensemble's directory, with the tree of its newest snapshot.
func openLog(cfg Config, deps Deps) (*raftlog.Log, *raftlog.Recovered, *znode.Tree, error) {
	tree := znode.New()
	log, recovered, err := raftlog.Open(
		raftlog.Config{
			Dir: cfg.Dir, SegmentBytes: cfg.Limits.LogSegmentBytes,
			PayloadBytesMax: cfg.Limits.ProposalBytesMax + originBytes,
		},
		raftlog.Deps{FS: deps.FS, Clock: deps.Runtime.Clock(), Observer: deps.Observer},
		func(_ raftlog.SnapshotMeta, r io.Reader) (err error) {
			tree, err = znode.Restore(r)
			return err
		})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("open the ensemble in %s: %w", cfg.Dir, err)
	}
	return log, recovered, tree, nil
}

// start builds the owner around what was recovered.
func (e *Ensemble) start(log *raftlog.Log, r *raftlog.Recovered, m member) (*owner, error) {
	if r.ShorterThanPromised {
		return nil, fmt.Errorf("open the ensemble in %s: the log ends with record %d and more was promised: %w",
			e.cfg.Dir, r.LastSeq, raftlog.ErrCorrupt)
	}
	if err := e.cfg.runs(e.tree); err != nil {
		return nil, fmt.Errorf("open the ensemble in %s: %w", e.cfg.Dir, err)
	}
	id, err := e.enter(log, r, &m)
	if err != nil {
		return nil, err
	}
	var nonce [8]byte
	if _, err := io.ReadFull(e.deps.Random, nonce[:]); err != nil {
		return nil, fmt.Errorf("name this process: %w", err)
	}
	keep, err := newKeeper(e.cfg)
	if err != nil {
		return nil, err
	}
	o := &owner{
		e: e, keep: keep, log: log, member: m, applied: r.Snapshot.Index, term: r.HardState.Term, vote: r.HardState.Vote,
		incarnation: binary.BigEndian.Uint64(nonce[:]), pending: make(map[origin]*proposal),
		heardAt: make(map[uint64]time.Duration), ended: make(map[uint64]bool), gathering: gathering{delay: max(e.cfg.FlushDelay, 0)},
	}
	o.up.gathering.delay = o.gathering.delay
	o.snap.last = startedFrom(r.Snapshot.Index, e.tree)
	e.appliedIndex = o.applied
	if err := o.become(id, r); err != nil {
		return nil, err
	}
	if r.Distrusted {
		e.deps.Observer.Log.Error("this box's tree was found to differ from the others' before it was started: it serves when it has the leader's")
		o.distrust(0, 0)
		o.differs.noted = true
	}
	if err := o.readMembers(); err != nil {
		return nil, err
	}
	if o.alone() {
		if err := o.node.Campaign(); err != nil {
			return nil, fmt.Errorf("campaign: %w", err)
		}
	}
	o.publish()
	return o, nil
}

// enter is the raft id that this box takes part under. A fresh log begins with the configured membership, unless the others
// are to be asked first: then nobody votes yet, and the log stays empty.
func (e *Ensemble) enter(log *raftlog.Log, r *raftlog.Recovered, m *member) (uint64, error) {
	id := quorum.RaftID(e.cfg.Box, 0)
	if e.deps.Ask != nil {
		begun, err := m.recall(e.cfg, e.deps, r.Fresh)
		if err != nil || !begun {
			return id, err
		}
		return m.Raft, nil
	}
	if r.Fresh {
		r.ConfState = raftlog.ConfState{Voters: e.cfg.Voters, Learners: e.cfg.Learners}
		if err := log.Append(raftlog.Batch{ConfState: &r.ConfState}); err != nil {
			return id, fmt.Errorf("begin the log: %w", err)
		}
	}
	return id, nil
}

func (e *Ensemble) raftConfig(id uint64, disk *storage, applied uint64) *raft.Config {
	return &raft.Config{
		ID: id, ElectionTick: electionTicks, HeartbeatTick: heartbeatTicks, Storage: disk, Applied: applied,
		AsyncStorageWrites: true,
		MaxSizePerMsg:      e.cfg.Limits.RaftMessageBytesMax,
		// What is applied at once is applied under one hold of the write lock.
		MaxCommittedSizePerReady: 4 << 20,
		// Proposals are bounded before they reach raft.
		MaxUncommittedEntriesSize: 0,
		MaxInflightMsgs:           e.cfg.Limits.RaftInflightMax,
		MaxInflightBytes:          uint64(e.cfg.Limits.RaftInflightMax) * e.cfg.Limits.RaftMessageBytesMax,
		CheckQuorum:               true, PreVote: true, StepDownOnRemoval: true,
		// The leader stamps time into what it proposes: a proposal that raft forwards would carry another box's.
		DisableProposalForwarding: true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{e.deps.Observer.Log},
	}
}

// Close stops this box's part: what was not proposed is refused, what is in flight is answered with ErrUncertain, and
// the log is closed after the flush under way. The syncer must outlive it.
func (e *Ensemble) Close() error {
	if e.ended.Swap(true) {
		return nil
	}
	e.box.Post(message{kind: msgClose})
	e.box.Close()
	return e.log.Close()
}
