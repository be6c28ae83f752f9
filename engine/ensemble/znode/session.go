package znode

import (
	"slices"
	"strings"

	"cairn/engine/ensemble/jute"
)

// session is a client's session, or the session of a box that registered.
type session struct {
	id          int64
	timeoutMs   int32
	box         uint64 // that it is attached to, or that it is of
	incarnation uint64 // of a box's session; 0 for a client's
	ephemerals  map[nodeID]struct{}
}

// sessionBytes is about what a session takes, and ephemeralBytes what it takes for each ephemeral.
const (
	sessionBytes   = 160
	ephemeralBytes = 24
)

// SessionInfo describes a session.
type SessionInfo struct {
	ID        int64
	TimeoutMs int32
	Box       uint64
	// Incarnation of a box's session, which is held by a lease and is no client's; 0 for a client's session.
	Incarnation uint64
	Ephemerals  int
}

// IsBox tells whether the session is a box's registration.
func (s SessionInfo) IsBox() bool { return s.Incarnation != 0 }

func (s *session) info() SessionInfo {
	return SessionInfo{ID: s.id, TimeoutMs: s.timeoutMs, Box: s.box, Incarnation: s.incarnation, Ephemerals: len(s.ephemerals)}
}

// Session describes a session that is open.
func (t *Tree) Session(id int64) (SessionInfo, bool) {
	s := t.sessions[id]
	if s == nil {
		return SessionInfo{}, false
	}
	return s.info(), true
}

// SessionCount is the number of open sessions, those of boxes included.
func (t *Tree) SessionCount() int { return len(t.sessions) }

// Sessions describes all open sessions, by id.
func (t *Tree) Sessions() []SessionInfo {
	infos := make([]SessionInfo, 0, len(t.sessions))
	for _, id := range sortedKeys(t.sessions) {
		infos = append(infos, t.sessions[id].info())
	}
	return infos
}

// BoxSession describes the session that a box registered.
func (t *Tree) BoxSession(box uint64) (SessionInfo, bool) {
	id, ok := t.boxes[box]
	if !ok {
		return SessionInfo{}, false
	}
	return t.Session(id)
}

// Ephemerals are the paths of a session's ephemerals that begin with prefix, sorted. As in ZooKeeper the prefix is one
// of characters, not of names; a blank one, or "/", is all.
func (t *Tree) Ephemerals(session int64, prefix string) []string {
	s := t.sessions[session]
	if s == nil {
		return []string{}
	}
	if trimmed := strings.TrimSpace(prefix); trimmed == "" || trimmed == "/" {
		prefix = ""
	}
	paths := make([]string, 0, len(s.ephemerals))
	for id := range s.ephemerals {
		if path := t.path(id); strings.HasPrefix(path, prefix) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// SessionIDOf makes a session's id from the zxid that creates it and the box that it is created at: seven bits of the
// box above 56 of the zxid. It is positive, and its high byte is never one of those that mark containers and TTLs
// (EphemeralType).
func SessionIDOf(zxid int64, box uint64) int64 {
	return zxid&(1<<56-1) | int64(box&0x7f)<<56
}

// LocalBit is set in the ids that boxes give to sessions which they alone know, until such a session is to own an
// ephemeral. The ids that the tree makes have it clear: no zxid comes near it.
const LocalBit = 1 << 55

func (t *Tree) openSession(s *session) {
	t.sessions[s.id] = s
	if s.incarnation != 0 {
		t.boxes[s.box] = s.id
	}
	t.sessionSum += s.sum()
}

// dropSession forgets a session whose ephemerals are gone.
func (t *Tree) dropSession(s *session) {
	delete(t.sessions, s.id)
	if s.incarnation != 0 && t.boxes[s.box] == s.id {
		delete(t.boxes, s.box)
	}
	t.sessionSum -= s.sum()
}

// createSession applies KindCreateSession.
func (x *txn) createSession() jute.Code {
	t, e := x.t, x.e
	if e.TimeoutMs <= 0 {
		return jute.BadArguments
	}
	s := &session{id: SessionIDOf(x.zxid, e.Box), timeoutMs: e.TimeoutMs, box: e.Box}
	if e.Session != 0 {
		if e.Session < 0 || e.Session&LocalBit == 0 {
			return jute.BadArguments
		}
		s.id, x.out.Session = e.Session, e.Session
		if old := t.sessions[s.id]; old != nil {
			return jute.OK // its box asked twice
		}
	}
	if t.sessions[s.id] != nil {
		return jute.SystemError // 2^56 zxids later
	}
	t.openSession(s)
	x.out.Session = s.id
	return jute.OK
}

// moveSession applies KindMoveSession. The timeout is the one that the client asked for when it came back, as in
// ZooKeeper, whose leader is told of it with the next touch.
func (x *txn) moveSession() jute.Code {
	s := x.t.sessions[x.e.Session]
	if s == nil || s.incarnation != 0 {
		return jute.SessionExpired
	}
	x.t.sessionSum -= s.sum()
	s.box = x.e.Box
	if x.e.TimeoutMs > 0 {
		s.timeoutMs = x.e.TimeoutMs
	}
	x.t.sessionSum += s.sum()
	return jute.OK
}

// closeSession applies KindCloseSession and KindExpireSession: all ephemerals go in this one transaction, in the order
// of their paths (ZooKeeper's order is that of a hash set).
func (x *txn) closeSession(id int64) jute.Code {
	s := x.t.sessions[id]
	if s == nil || s.incarnation != 0 {
		return jute.OK
	}
	if x.e.Kind == KindExpireSession && s.box != x.e.Box {
		return jute.SessionMoved
	}
	x.endSession(s)
	return jute.OK
}

func (x *txn) endSession(s *session) {
	for _, path := range x.t.Ephemerals(s.id, "") {
		x.deleteNode(path)
	}
	x.t.dropSession(s)
	x.out.Closed = append(x.out.Closed, s.id)
}

// expireBox applies KindExpireBox.
func (x *txn) expireBox() jute.Code {
	s := x.t.sessions[x.t.boxes[x.e.Box]]
	if s == nil || s.incarnation != x.e.Incarnation {
		return jute.SessionExpired
	}
	x.endSession(s)
	return jute.OK
}

// register applies KindRegister: in one transaction the box's old session goes with its ephemerals, if it was another
// incarnation's, a new one comes, and the ops are done in its name.
func (x *txn) register() jute.Code {
	t, e := x.t, x.e
	if e.Incarnation == 0 || e.Box == 0 || !e.has(FlagInternal) {
		return jute.BadArguments
	}
	old := t.sessions[t.boxes[e.Box]]
	if old != nil && old.incarnation > e.Incarnation {
		return jute.BadVersion
	}
	before := t.totals
	t.begin()
	s := old
	if old == nil || old.incarnation != e.Incarnation {
		if old != nil {
			x.endSession(old)
		}
		s = &session{id: SessionIDOf(x.zxid, e.Box), timeoutMs: e.TimeoutMs, box: e.Box, incarnation: e.Incarnation}
		t.openSession(s)
	}
	x.owner = s.id
	if err := x.all(); err != jute.OK {
		if s != old {
			t.dropSession(s)
			if old != nil {
				t.openSession(old)
			}
		}
		t.rollback(before)
		x.out.Closed = nil
		return err
	}
	t.commit()
	x.out.Session = s.id
	return jute.OK
}
