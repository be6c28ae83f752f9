package sim

import (
	"fmt"
	"slices"
	"strings"

	"cairn/engine/sim/history"
)

// lock is a client's part in ZooKeeper's recipe for locks: an ephemeral sequential node, the lowest of which holds the
// lock; each of the others watches the one before it.
type lock struct {
	state lockState
	// node is the client's own, and czxid its token.
	node  string
	czxid int64
	// awaits is the node before it, which is watched.
	awaits string
	busy   bool // a request of the recipe is under way
}

type lockState uint8

const (
	lockNone lockState = iota
	lockWaits
	lockHeld
	// lockUnsure: a create had no answer. Whatever node there is has to be found and removed first.
	lockUnsure
)

const lockDirectory = "/lock"

// prefix tells the client's nodes from the others'.
func (l *lock) prefix(c *client) string {
	return fmt.Sprintf("%s/c%d-%x-", lockDirectory, c.id, uint64(c.session))
}

// step goes on with the recipe.
func (l *lock) step(c *client) {
	if l.busy {
		return
	}
	switch l.state {
	case lockNone:
		l.busy, l.state = true, lockUnsure
		c.sequential(l.prefix(c), true, func(r history.Result) {
			l.busy = false
			if r.Code == history.OK {
				l.state, l.node, l.czxid, l.awaits = lockWaits, r.Name, r.Czxid, ""
			}
		})
	case lockWaits:
		if l.awaits == "" {
			l.look(c)
		}
	case lockHeld:
		if c.w.rand().IntN(4) == 0 {
			l.release(c)
		}
	case lockUnsure:
		l.clean(c)
	}
}

// order is a lock node's number.
func order(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }

// look asks who holds the lock.
func (l *lock) look(c *client) {
	l.busy = true
	node := l.node
	token := c.w.record.Invoke(history.Op{Client: c.id, Session: c.session, Conn: c.conns, Box: c.lastBox, Kind: history.Acquire, Path: lockDirectory})
	c.children(lockDirectory, false, func(r history.Result) {
		l.busy = false
		if r.Code != history.OK || l.node != node {
			return
		}
		names := slices.Clone(r.Children)
		slices.SortFunc(names, func(a, b string) int { return strings.Compare(order(a), order(b)) })
		at := slices.Index(names, strings.TrimPrefix(node, lockDirectory+"/"))
		switch {
		case at < 0:
			c.w.failf("client %d: its node %s is gone though its session 0x%x is there", c.id, node, c.session)
		case at == 0:
			l.state = lockHeld
			token.Return(history.Result{Zxid: r.Zxid, Name: node, Czxid: l.czxid})
		default:
			l.awaits = lockDirectory + "/" + names[at-1]
			l.watch(c)
		}
	})
}

// watch waits for the node before.
func (l *lock) watch(c *client) {
	l.busy = true
	c.exists(l.awaits, true, func(r history.Result) {
		l.busy = false
		if r.Code == history.NoNode {
			l.awaits = ""
		}
	})
}

func (l *lock) notified(_ *client, path string) {
	if path == l.awaits {
		l.awaits = ""
	}
}

func (l *lock) release(c *client) {
	l.busy = true
	c.release(l.node, func(r history.Result) {
		*l = lock{}
	})
}

// clean looks for a node of a create without an answer and removes it.
func (l *lock) clean(c *client) {
	l.busy = true
	prefix := strings.TrimPrefix(l.prefix(c), lockDirectory+"/")
	c.children(lockDirectory, false, func(r history.Result) {
		l.busy = false
		left := slices.DeleteFunc(slices.Clone(r.Children), func(name string) bool { return !strings.HasPrefix(name, prefix) })
		if r.Code == history.OK && len(left) == 0 {
			*l = lock{}
			return
		}
		for _, name := range left {
			c.removeEphemeral(lockDirectory + "/" + name)
		}
	})
}

// disconnected: what was under way has no answer.
func (l *lock) disconnected() { l.busy = false }

// connected: the node before may have gone while nobody was told; the watch that was asked for may never have been set.
func (l *lock) connected(*client) { l.awaits = "" }
