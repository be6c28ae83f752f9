package zkserver

import (
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// What a connection to a read-only server is answered (ReadOnlyRequestProcessor): reads and watches from the tree as it
// stands, and to everything that would have to ask other servers, NotReadOnly.

// view is the ensemble's View, or that of a read-only box where the connection was told that this is one.
func (c *conn) view(f func(*znode.Tree, *ensemble.Watches)) error {
	if c.readOnly {
		return c.s.deps.Ensemble.ViewReadOnly(f)
	}
	return c.s.deps.Ensemble.View(f)
}

// refusedReadOnly tells whether a read-only server answers the operation with NotReadOnly, whatever is in it.
func refusedReadOnly(op jute.OpCode) bool {
	switch op {
	case jute.OpSync, jute.OpCreate, jute.OpCreate2, jute.OpCreateTTL, jute.OpCreateContainer, jute.OpDelete, jute.OpDeleteContainer,
		jute.OpSetData, jute.OpReconfig, jute.OpSetACL, jute.OpMulti, jute.OpCheck:
		return true
	}
	return false
}

// acceptReadOnly takes a request that is not answered as any other. False: it is.
func (c *conn) acceptReadOnly(op jute.OpCode) (taken, last bool, err error) {
	switch {
	case refusedReadOnly(op):
		c.request.failed = jute.NotReadOnly
		return true, false, c.read()
	case op == jute.OpCloseSession:
		return true, true, c.leave()
	}
	return false, false, nil
}

// view shows the tree to words and commands, also while the server is read-only.
func (s *Server) view(f func(*znode.Tree, *ensemble.Watches)) error {
	if err := s.deps.Ensemble.View(f); err == nil || !s.deps.Ensemble.ReadOnly() {
		return err
	}
	return s.deps.Ensemble.ViewReadOnly(f)
}
