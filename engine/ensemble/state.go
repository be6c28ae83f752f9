package ensemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/znode"
)

// ErrNewer: the tree is under rules that this build does not know. It must not apply them as it sees fit: a newer build is
// to be started in its place.
var ErrNewer = errors.New("the tree needs a newer build")

// runs says why this box must not apply entries to the tree.
func (c *Config) runs(t *znode.Tree) error {
	if t.Rules() <= c.Rules {
		return nil
	}
	return fmt.Errorf("%w: its rules are version %d, and this one (%s) knows up to version %d; start the build that the other boxes run",
		ErrNewer, t.Rules(), c.Build, c.Rules)
}

// said is what a box told this leader of itself in this term.
type said struct {
	rules uint32
	build string
	at    time.Duration
}

// buildBytesMax bounds the name of a build.
const buildBytesMax = 64

// saidFor is for how many beats the word of a box counts: one that is silent may come back as another build.
const saidFor = 4

// stateBeat is how often a box repeats what it is.
func (c *Config) stateBeat() time.Duration { return c.TickTime / 2 }

// reportState tells the leader what this box can run, and what its tree was when it was compared last: at once when it begins
// to follow it, and at every beat.
func (o *owner) reportState() {
	if o.lead == raft.None || o.lead == o.id || o.now.Mono < o.nextState {
		return
	}
	o.nextState = o.now.Mono + o.e.cfg.stateBeat()
	b := binary.BigEndian.AppendUint64([]byte{frameState}, o.node.BasicStatus().HardState.GetTerm())
	b = binary.BigEndian.AppendUint32(b, o.e.cfg.Rules)
	o.e.deps.Transport.Send(o.leader(), append(b, o.e.cfg.Build...), false)
	o.repeatDigest()
}

// decodeState decodes what follows the kind of a frameState.
func decodeState(f *peerFrame, b []byte) error {
	if len(b) < 8+4 || len(b) > 8+4+buildBytesMax {
		return fmt.Errorf("%w: the state of a box in %d bytes", errPeerFrame, len(b))
	}
	f.term, f.rules, f.build = binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), string(b[12:])
	return nil
}

// takeState keeps what a member says, if it says it in this box's own term.
func (o *owner) takeState(box uint64, f *peerFrame) {
	if o.role != raft.StateLeader || f.term != o.node.BasicStatus().HardState.GetTerm() || !o.isMember(box) {
		return
	}
	if old, ok := o.said[box]; !ok || old.rules != f.rules || old.build != f.build {
		o.e.deps.Observer.Log.Info("a member's build", "box", box, "build", f.build, "rules", f.rules, "tree_rules", o.e.tree.Rules())
	}
	if o.said == nil {
		o.said = make(map[uint64]said)
	}
	o.said[box] = said{rules: f.rules, build: f.build, at: o.now.Mono}
	o.again = true
}

// raiseRules proposes the newest rules that every member can run, once each has said in this term what that is. Who is
// away holds the others back: it must find rules that it knows when it comes back. One that is replaced by an older build
// later is not waited for; it stops by itself (ErrNewer).
func (o *owner) raiseRules() {
	rules, now := o.e.cfg.Rules, o.e.tree.Rules()
	if rules <= now || o.raising || !o.ready || len(o.leaving.done) > 0 {
		return
	}
	for _, box := range o.members() {
		if box == o.e.cfg.Box {
			continue
		}
		s, ok := o.said[box]
		if !ok || o.now.Mono-s.at > saidFor*o.e.cfg.stateBeat() {
			return
		}
		rules = min(rules, s.rules)
	}
	if rules <= now {
		return
	}
	o.raising = true
	o.e.deps.Observer.Log.Info("every member can run newer rules", "from", now, "to", rules)
	o.internal(znode.Entry{Kind: znode.KindSetRules, Rules: rules}, func(znode.Outcome, error) { o.raising = false })
}

// members are all boxes of the present configuration, those of both sides while it changes.
func (o *owner) members() []uint64 {
	return eachServer(o.conf.Voters, o.conf.VotersOutgoing, o.conf.Learners, o.conf.LearnersNext)
}

func (o *owner) isMember(box uint64) bool { return slices.Contains(o.members(), box) }
