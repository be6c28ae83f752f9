package zkserver

import (
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/znode"
)

// WithEarlyReads is a bug on purpose: servers that answer a read from the tree as it is when it arrives, though writes
// of the same session that were sent before it are not applied. A simulation that does not notice is worth nothing. It
// wants a test to be given, so that nothing else can ask for it.
func (c Config) WithEarlyReads(t interface{ Helper() }) Config {
	t.Helper()
	c.earlyReads = true
	return c
}

// readEarly looks at once, and is answered in its turn.
func (c *conn) readEarly() error {
	s := &slot{request: c.request, state: slotAnswered, body: []byte{}}
	err := c.s.deps.Ensemble.View(func(t *znode.Tree, w *ensemble.Watches) {
		c.turn.Lock()
		defer c.turn.Unlock()
		var r result
		if s.err = c.lookUp(t, w, &s.request, &r); s.err == nil {
			s.outcome = znode.Outcome{Zxid: t.Zxid(), Err: r.code}
			if r.code == 0 {
				s.body = r.append(s.body, &s.request)
			}
		}
	})
	if err == nil {
		c.park(s)
	}
	return err
}
