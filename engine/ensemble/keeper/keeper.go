package keeper

import (
	"time"

	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/platform/clock"
)

// Tree is what the keeper reads of the tree. The caller of Step holds the read lock.
type Tree interface {
	TimeMs() int64
	// Reapable is znode.Tree's.
	Reapable(cursor uint32, scan, most int, nowMs, neverUsedMs int64) (ops []jute.Op, next uint32)
}

// Keeper is the state of the leader's duties. It does nothing until Lead, and forgets everything at Follow.
type Keeper struct {
	cfg     Config
	leading bool
	sessions
	leases leases
	reaper reaper
}

// New makes a keeper of a box that follows. The Config must be valid.
func New(cfg Config) *Keeper { return &Keeper{cfg: cfg} }

// Lead begins to lead. All sessions' timers start in full, because a new leader does not know who was heard by the old
// one (LeaderSessionTracker). silence is how long no leader was heard before this one: boxes are counted silent since,
// except that a lease is never over before the box had half of it to speak up.
func (k *Keeper) Lead(now clock.Now, open []znode.SessionInfo, silence time.Duration) {
	k.leading = true
	k.sessions = newSessions(k.cfg, now.Mono)
	k.leases = leases{}
	k.reaper = reaper{next: now.Mono + k.cfg.ContainerCheckInterval}
	for _, s := range open {
		if !s.IsBox() {
			k.sessions.open(s, now.Mono)
			continue
		}
		heard := now.Mono - min(silence, k.cfg.BoxLease/2)
		k.leases.open(s, heard+k.cfg.BoxLease, k.cfg.SelfBox)
	}
}

// Follow ends leading.
func (k *Keeper) Follow() { *k = Keeper{cfg: k.cfg} }

// Leading tells whether Lead was called last.
func (k *Keeper) Leading() bool { return k.leading }

// Opened tells of a session that was created, registered or moved by an applied entry. Its time begins anew.
func (k *Keeper) Opened(now clock.Now, s znode.SessionInfo) {
	switch {
	case !k.leading:
	case s.IsBox():
		k.leases.open(s, now.Mono+k.cfg.BoxLease, k.cfg.SelfBox)
	default:
		k.sessions.open(s, now.Mono)
	}
}

// Closed tells of a session that an applied entry ended (Outcome.Closed).
func (k *Keeper) Closed(id int64) {
	k.sessions.close(id)
	k.leases.close(id)
}

// Touch tells that a session was heard. It returns false when the session is not known or is about to expire: its
// requests are refused from then on.
func (k *Keeper) Touch(now clock.Now, id int64) bool {
	return k.leading && k.sessions.touch(id, now.Mono)
}

// Heard tells that a box was heard over its link. As long as it is, it reports in time whose clients it has heard.
func (k *Keeper) Heard(now clock.Now, box uint64) {
	if k.leading {
		k.leases.heard(box, now.Mono+k.cfg.BoxLease)
		k.sessions.hear(box, now.Mono)
	}
}

// Gone tells that a box's link closed: its lease is over at once.
func (k *Keeper) Gone(now clock.Now, box uint64) {
	if k.leading {
		k.leases.heard(box, now.Mono)
	}
}

// Step gives the entries to propose now, and the monotonic time of the next Step though nothing happens (0: none). The
// entries have no time yet: whoever proposes stamps them. It is called again at once when it returned as many entries
// as ProposalsMax.
func (k *Keeper) Step(now clock.Now, tree Tree) (propose []*znode.Entry, wake time.Duration) {
	if !k.leading {
		return nil, 0
	}
	propose = k.leases.expired(propose, k.cfg.ProposalsMax, now.Mono, k.cfg.BoxLease)
	propose = k.sessions.expired(propose, k.cfg.ProposalsMax, now.Mono)
	if len(propose) < k.cfg.ProposalsMax {
		if e := k.reaper.step(k.cfg, now, tree); e != nil {
			propose = append(propose, e)
		}
	}
	wake = k.reaper.next
	if at := k.sessions.wake(); at != 0 {
		wake = min(wake, at)
	}
	if at := k.leases.wake(); at != 0 {
		wake = min(wake, at)
	}
	return propose, max(wake, now.Mono)
}
