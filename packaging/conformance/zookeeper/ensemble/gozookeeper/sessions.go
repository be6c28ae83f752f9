package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"
)

// sessionsMove reopens a session on other servers, the observer among them, and closes it there.
func sessionsMove(s *servers, path string) error {
	_, followers, err := s.roles()
	if err != nil {
		return err
	}
	first, err := s.open(followers[0])
	if err != nil {
		return err
	}
	session, holder := first.SessionID(), first
	if err := first.make(path, "", zk.FlagEphemeral); err != nil {
		return err
	}
	wrong, err := s.openAs(sessionTime, &shaken{session: session, password: [16]byte{1, 2, 3}}, followers[1])
	if err != nil {
		return err
	}
	// go-zookeeper goes on with a new session when it is told that its own is gone.
	if err := ensure(wrong.saw(zk.StateExpired) && wrong.SessionID() != session, "a wrong password opened session %x", session); err != nil {
		return err
	}
	for _, n := range []int{followers[1], observer, followers[0], observer} {
		holder.goTo()
		moved, err := s.openAs(sessionTime, &shaken{session: session, password: holder.shaken.granted}, n)
		if err != nil {
			return err
		}
		if err := ensure(moved.SessionID() == session, "on server %d session %x is %x", n, session, moved.SessionID()); err != nil {
			return err
		}
		if err := outlived(holder, path); err != nil {
			return err
		}
		_, stat, err := moved.Get(path)
		if err != nil || stat.EphemeralOwner != session {
			return fmt.Errorf("the ephemeral on server %d: %+v, %w", n, stat, err)
		}
		holder = moved
	}
	holder.Close()
	return goneEverywhere(s, path)
}

// outlived waits until the connection of a session that moved is closed. ZooKeeper may notice at its next write.
func outlived(c *client, path string) error {
	for deadline := time.Now().Add(wait); c.State() == zk.StateHasSession; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the old connection of a session that moved: %w", errTime)
		}
		if c.State() == zk.StateHasSession {
			go c.Set(path, nil, -1) //nolint:errcheck // it is refused
		}
	}
	return nil
}

func goneEverywhere(s *servers, path string) error {
	for n := range s.address {
		c, err := s.open(n)
		if err != nil {
			return err
		}
		if _, err := c.Sync(path); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		if there, _, err := c.Exists(path); err != nil || there {
			return fmt.Errorf("server %d: the ephemeral of a session that ended is there: %v, %w", n, there, err)
		}
	}
	return nil
}

// clientsFromTheFuture claims to have seen more than there is: a server takes such a client when it has caught up.
func clientsFromTheFuture(s *servers, path string) error {
	leader, _, err := s.roles()
	if err != nil {
		return err
	}
	writer, err := s.open(leader)
	if err != nil {
		return err
	}
	if err := writer.make(path, "", 0); err != nil {
		return err
	}
	for n := range s.address {
		stat, err := writer.Set(path, nil, -1)
		if err != nil {
			return err
		}
		h := &shaken{zxid: stat.Mzxid + 50}
		type opened struct {
			c   *client
			err error
		}
		done := make(chan opened, 1)
		go func() {
			c, err := s.openAs(sessionTime, h, n)
			done <- opened{c, err}
		}()
		refused := func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.refused >= 3 }
		if err := until("a refusal", refused); err != nil {
			return err
		}
		select {
		case <-done:
			return fmt.Errorf("server %d took a client that has seen 50 transactions that are yet to come", n)
		default:
		}
		for range 60 {
			if stat, err = writer.Set(path, nil, -1); err != nil {
				return err
			}
		}
		got := <-done
		if got.err != nil {
			return fmt.Errorf("server %d has caught up: %w", n, got.err)
		}
	}
	return nil
}

// expiryEverywhere lets a session end for silence.
func expiryEverywhere(s *servers, path string) error {
	c, err := s.openAs(time.Second, &shaken{}, observer)
	if err != nil {
		return err
	}
	session := c.SessionID()
	if err := c.make(path, "", zk.FlagEphemeral); err != nil {
		return err
	}
	var gone []<-chan zk.Event
	for n := range s.address {
		w, err := s.open(n)
		if err != nil {
			return err
		}
		if _, err := w.Sync(path); err != nil {
			return err
		}
		there, _, ch, err := w.ExistsW(path)
		if err != nil || !there {
			return fmt.Errorf("server %d has no ephemeral: %w", n, err)
		}
		gone = append(gone, ch)
	}
	c.goTo()
	c.shaken.cut()
	for _, ch := range gone {
		select {
		case e := <-ch:
			if e.Type != zk.EventNodeDeleted {
				return fmt.Errorf("the ephemeral's event is %+v", e)
			}
		case <-time.After(wait):
			return fmt.Errorf("the end of the session: %w", errTime)
		}
	}
	c.goTo(voters...)
	return until("another session", func() bool {
		return c.State() == zk.StateHasSession && c.SessionID() != session && c.saw(zk.StateExpired)
	})
}

// readOnlyRefuses: go-zookeeper cannot ask for a read-only server, and is served by none.
func readOnlyRefuses(s *servers, path string) error {
	c, err := s.openAs(10*time.Second, &shaken{}, 3)
	if err != nil {
		return err
	}
	session := c.SessionID()
	if err := c.make(path, "", zk.FlagEphemeral); err != nil {
		return err
	}
	if err := s.orders([]any{"kill", 1}, []any{"kill", 2}, []any{"await", 3, "read-only"}); err != nil {
		return err
	}
	before := func() int { c.shaken.mu.Lock(); defer c.shaken.mu.Unlock(); return c.shaken.refused }
	seen := before()
	if err := until("a refusal", func() bool { return before() >= seen+3 }); err != nil {
		return err
	}
	if err := ensure(c.State() != zk.StateHasSession, "a read-only server took a client that did not ask for it"); err != nil {
		return err
	}
	if err := s.orders([]any{"start", 1}, []any{"await", 1, "leader", "follower"}); err != nil {
		return err
	}
	var stat *zk.Stat
	if err := again(func() error { _, stat, err = c.Get(path); return err }); err != nil {
		return err
	}
	return ensure(c.SessionID() == session && stat.EphemeralOwner == session, "session %x did not live through a time without a majority", session)
}
