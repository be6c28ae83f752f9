package zkserver

import (
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// What is different for a session that only this server knows (UpgradeableSessionTracker, QuorumZooKeeperServer).

// alone tells whether the session is this server's own still.
func (c *conn) alone() bool {
	if !c.local.Load() {
		return false
	}
	if c.s.deps.Ensemble.KnowsAlone(c.session.Load()) {
		return true
	}
	c.local.Store(false) // it was upgraded, perhaps by the connection that had it before
	return false
}

// owner says in whose name a write is proposed. What a session of this server's own writes has no owner; one that is to own
// an ephemeral becomes everybody's first, under its id, or is refused where that is not allowed. local is the session
// if it is this server's own.
func (c *conn) owner(entry *znode.Entry) (local int64) {
	if !c.alone() {
		return 0
	}
	session := c.session.Load()
	if !wantsOwner(entry.Ops) {
		entry.Session, entry.Flags = 0, entry.Flags|znode.FlagLocal
		return session
	}
	if !c.s.cfg.UpgradeSessions {
		c.request.failed = jute.EphemeralOnLocalSession
		return 0
	}
	c.local.Store(false)
	c.s.deps.Ensemble.Upgrade(session, c, func(err error) {
		if err != nil {
			c.die(err) // nobody knows whether what follows has an owner
		}
	})
	return 0
}

// wantsOwner tells whether an ephemeral is to be created.
func wantsOwner(ops []jute.Op) bool {
	for i := range ops {
		if op := &ops[i]; (op.Type == jute.OpCreate || op.Type == jute.OpCreate2) && jute.CreateMode(op.Flags).Ephemeral() {
			return true
		}
	}
	return false
}

// leave answers the end of a session that is this server's own. It is over with the connection: what the client has sent
// before is still done in its name.
func (c *conn) leave() error {
	c.leaving = true
	c.park(&slot{request: c.request, state: slotAnswered})
	return nil
}
