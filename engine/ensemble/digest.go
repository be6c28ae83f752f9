package ensemble

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/keeper"
	"cairn/engine/ensemble/raftlog"
)

// Every so many entries of the log each box notes its tree's digest and tells it to the leader, which compares them and
// tells the box that differs (keeper.Poll). That one serves no more until it has the leader's tree (exchange.go). A leader
// that finds itself to be the one hands over and does the same.

// errDiffers is why a box does not serve: its tree is not that of the others, through a bug or a bad bit.
var errDiffers = errors.New("this box's tree is not that of the others")

// TreeDigest is the digest of the tree after a zxid. Members whose trees are the same have the same.
type TreeDigest struct {
	Zxid   int64
	Digest uint64
}

// digestsShown is how many are kept to be shown.
const digestsShown = 64

// noteDigest keeps a digest to be shown. The write lock is held.
func (e *Ensemble) noteDigest(d TreeDigest) {
	if len(e.digests) == digestsShown {
		e.digests = append(e.digests[:0], e.digests[1:]...)
	}
	e.digests = append(e.digests, d)
}

// Digests are the last digests of this box's tree that were compared with the others', oldest first.
func (e *Ensemble) Digests() []TreeDigest {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Clone(e.digests)
}

// noteDigest notes the digest after the entry that was applied, if it is due. The write lock is held.
func (o *owner) noteDigest() {
	if !keeper.DigestDue(o.applied) || o.differs != nil {
		return
	}
	digest := o.e.tree.Digest()
	o.digests.Note(o.applied, digest)
	o.e.noteDigest(TreeDigest{Zxid: o.e.tree.Zxid(), Digest: digest})
	switch {
	case o.role == raft.StateLeader:
		o.poll.Say(o.now.Mono, o.applied, o.e.cfg.Box, digest)
	case o.lead != raft.None:
		o.e.deps.Transport.Send(o.leader(), words(frameDigest, o.applied, digest), false)
	}
}

// repeatDigest tells the leader the last digest once more: it may have been lost, or told to the leader before.
func (o *owner) repeatDigest() {
	if index, digest, ok := o.digests.Last(); ok && o.differs == nil {
		o.e.deps.Transport.Send(o.leader(), words(frameDigest, index, digest), false)
	}
}

// takeDigest keeps what a member says of its tree.
func (o *owner) takeDigest(box uint64, f *peerFrame) {
	if o.role != raft.StateLeader || o.differs != nil || !o.isMember(box) ||
		!keeper.DigestDue(f.index) || f.index > o.applied+keeper.DigestEvery {
		return
	}
	if own, ok := o.digests.At(f.index); ok {
		o.poll.Say(o.now.Mono, f.index, o.e.cfg.Box, own) // it was noted before this box led
	}
	o.poll.Say(o.now.Mono, f.index, box, f.digest)
}

// judge tells the boxes whose trees are found to differ.
func (o *owner) judge() {
	if o.role != raft.StateLeader || o.differs != nil {
		return
	}
	for _, found := range o.poll.Step(o.now.Mono, o.e.cfg.Box, o.voters()) {
		if found.Box == o.e.cfg.Box {
			o.differ(found.Index, found.Right)
			return // what else was found, the next leader finds
		}
		o.e.deps.Observer.Log.Error("a member's tree differs: it is told to go on from this box's", "box", found.Box, "index", found.Index)
		o.e.deps.Transport.Send(found.Box, words(frameDiffers, found.Index, found.Right), false)
	}
}

// takeDiffers is what the leader has found about this box's tree. It is checked: the tree may have been replaced since.
func (o *owner) takeDiffers(box uint64, f *peerFrame) {
	if own, ok := o.digests.At(f.index); box == o.leader() && o.differs == nil && ok && own != f.digest {
		o.differ(f.index, f.digest)
	}
}

// difference is what a box whose tree differs knows, and the tree that is to take its place.
type difference struct {
	index, right uint64 // where it was found, and what the digest should have been; 0 after a restart
	// least is the index from which on another's snapshot is of use: every own snapshot is older, and the log in memory goes
	// back to it.
	least    uint64
	nextAsk  time.Duration
	incoming *incomingSnapshot
	// noted: the next start knows. installed: raft has replaced the tree meanwhile.
	noted     bool
	installed raftlog.SnapshotID
}

// differ ends what this box does on the word of its tree. Raft's part, the log and the votes, is not in doubt, and goes on.
func (o *owner) differ(index, right uint64) {
	own, _ := o.digests.At(index)
	o.e.metrics.mismatches.Inc()
	o.e.deps.Observer.Log.Error("this box's tree is not that of the others: it serves no more until it has the leader's",
		"index", index, "digest", fmt.Sprintf("%016x", own), "right", fmt.Sprintf("%016x", right))
	o.distrust(index, right)
	log := o.log
	var err error
	o.e.deps.Runtime.Spawn("distrust", func() { err = log.Distrust() },
		func() { o.e.box.Post(message{kind: msgDistrusted, err: err}) })
}

// distrust closes the doors and gives up what depends on the tree.
func (o *owner) distrust(index, right uint64) {
	o.differs = &difference{index: index, right: right, least: o.applied}
	o.disk.latest, o.disk.held = raftlog.SnapshotMeta{}, o.applied
	o.e.wantsTree.Store(true)
	o.stopServing(errors.Join(ErrNoQuorum, errDiffers))
	o.up.end(o)
	if o.role == raft.StateLeader {
		o.ready = false
		o.keep.Follow()
		o.failPending(ErrUncertain)
		o.dropParkedForwards()
		o.tellRole()
	}
	o.again = true // what is parked is refused
}

// distrustNoted ends the writing of the note. Without it a restart would serve the wrong tree.
func (o *owner) distrustNoted(err error) {
	if err != nil {
		o.fail(errors.Join(errDiffers, err))
		return
	}
	if o.differs != nil {
		o.differs.noted = true
	}
}

// mend goes on with what is to be done about a wrong tree.
func (o *owner) mend() {
	if o.differs == nil {
		return
	}
	o.yieldLead()
	o.trustAlone()
	o.askForTree()
	o.exchange()
}

// yieldLead hands the leadership over while this box's tree is wrong, again and again: it must not decide what is proposed.
func (o *owner) yieldLead() {
	if o.role == raft.StateLeader && len(o.leaving.done) == 0 {
		o.resign(func() {})
	}
}
