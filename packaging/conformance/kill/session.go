package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	sessionTimeout = 30 * time.Second
	base           = "/kill"
	alivePath      = base + "/alive"
	znodeWriters   = 4
)

// oneServer gives the same address for ever. go-zookeeper's own provider waits a second whenever it has tried all servers,
// which is longer than the box lives in most rounds.
type oneServer struct{ address string }

func (s oneServer) Init([]string) error  { return nil }
func (s oneServer) Len() int             { return 1 }
func (s oneServer) Next() (string, bool) { return s.address, false }
func (s oneServer) Connected()           {}

// quiet drops go-zookeeper's log: it reports every kill.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// Session is one ZooKeeper session that must outlive every kill, with an ephemeral znode that must too.
type Session struct {
	Conn    *zk.Conn
	id      int64
	expired atomic.Bool
	writers []*Writer
}

// StartSession opens the session, makes the base znodes and starts the writers.
func StartSession(ledger *Ledger, address string) (*Session, error) {
	dial := func(network, address string, timeout time.Duration) (net.Conn, error) {
		c, err := net.DialTimeout(network, address, timeout)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // the pause of a client that polls; nothing waits for it
		}
		return c, err
	}
	s := &Session{}
	conn, _, err := zk.Connect([]string{address}, sessionTimeout, zk.WithHostProvider(oneServer{address}), zk.WithDialer(dial),
		zk.WithLogger(quiet{}), zk.WithEventCallback(func(e zk.Event) {
			if e.State == zk.StateExpired {
				s.expired.Store(true)
			}
		}))
	if err != nil {
		return nil, err
	}
	s.Conn = conn
	if _, err := conn.Create(base, nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("create %s: %w", base, err)
	}
	if _, err := conn.Create(alivePath, nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("create %s: %w", alivePath, err)
	}
	s.id = conn.SessionID()
	for i := range znodeWriters {
		w, err := StartWriter(ledger, conn, i)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.writers = append(s.writers, w)
	}
	return s, nil
}

// Pause ends the writers.
func (s *Session) Pause() {
	for _, w := range s.writers {
		w.Stop()
	}
}

// Check has every writer compare what it knows, at a point where nothing of it is in doubt, and looks at the session and
// its ephemeral. When ctx ends before there is an answer, the session is given up: nothing else ends a client that the
// server will not have back.
func (s *Session) Check(ctx context.Context, ledger *Ledger) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, w := range s.writers {
			w.Check(ctx)
		}
		s.checkAlive(ledger)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		ledger.Fault("session %#x has no answer: %v, its state is %v", s.id, ctx.Err(), s.Conn.State())
		s.Close()
		<-done
	}
}

func (s *Session) checkAlive(ledger *Ledger) {
	if s.expired.Load() || s.Conn.SessionID() != s.id {
		ledger.Fault("session %#x was not taken up again: expired %v, now %#x", s.id, s.expired.Load(), s.Conn.SessionID())
		return
	}
	found, stat, err := s.Conn.Exists(alivePath)
	if err != nil || !found || stat.EphemeralOwner != s.id {
		ledger.Fault("%s, the ephemeral of session %#x: there %v, %+v, error %v", alivePath, s.id, found, stat, err)
	}
}

// Znodes is how many operations on znodes were acknowledged.
func (s *Session) Znodes() int {
	n := 0
	for _, w := range s.writers {
		n += w.Acked()
	}
	return n
}

// Close ends the writers and the session.
func (s *Session) Close() {
	for _, w := range s.writers {
		w.cancel()
	}
	s.Conn.Close() // ends a writer's request that waits for a box that is not there
	s.Pause()
}
