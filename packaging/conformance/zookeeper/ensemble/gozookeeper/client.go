package main

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// client is a connection of go-zookeeper to servers of the check's choice.
type client struct {
	*zk.Conn
	s      *servers
	hosts  *hosts
	shaken *shaken

	mu     sync.Mutex
	states []zk.State
}

// nowhere refuses every connection.
const nowhere = "127.0.0.1:1"

// hosts is a HostProvider whose servers can be others later.
type hosts struct {
	mu   sync.Mutex
	list []string
	next int
}

func (h *hosts) Init([]string) error { return nil }
func (h *hosts) Len() int            { return 1 }
func (h *hosts) Connected()          {}

// Next spaces the attempts: go-zookeeper waits a second after a round without success, which is too long here, or not at all.
// Without a server it says that the round is over: only then does go-zookeeper end the requests that it has not sent, and
// who waits for them before it names another server would wait for ever.
func (h *hosts) Next() (string, bool) {
	time.Sleep(10 * time.Millisecond)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	if len(h.list) == 0 {
		return nowhere, true
	}
	return h.list[h.next%len(h.list)], false
}

// shaken sees the handshakes of a client: go-zookeeper gives no way to reopen a session in another process, so what it
// sends first is changed on its way.
type shaken struct {
	mu       sync.Mutex
	session  int64 // to be asked for; 0: what the client asks for
	password [16]byte
	zxid     int64 // to be claimed as seen; 0: the client's own
	conn     net.Conn
	granted  [16]byte // password
	refused  int      // connections that ended before an answer
	last     time.Time
}

// Offsets in the frames of the handshake, the length included.
const (
	requestZxid, requestSession, requestPassword = 8, 20, 32
	answerPassword, answerBytes                  = 24, 40
)

func (h *shaken) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = conn
	return &handshake{Conn: conn, of: h}, nil
}

// cut closes the connection under the client.
func (h *shaken) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.conn.Close()
}

type handshake struct {
	net.Conn
	of   *shaken
	sent bool
	got  []byte
}

func (c *handshake) Write(b []byte) (int, error) {
	if c.sent {
		return c.Conn.Write(b)
	}
	c.sent = true
	c.of.mu.Lock()
	if c.of.session != 0 {
		binary.BigEndian.PutUint64(b[requestSession:], uint64(c.of.session))
		copy(b[requestPassword:], c.of.password[:])
		c.of.session = 0
	}
	if c.of.zxid != 0 {
		binary.BigEndian.PutUint64(b[requestZxid:], uint64(c.of.zxid))
	}
	c.of.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *handshake) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if len(c.got) >= answerBytes {
		return n, err
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if c.got = append(c.got, b[:n]...); len(c.got) >= answerBytes {
		copy(c.of.granted[:], c.got[answerPassword:])
	} else if err != nil {
		c.of.refused++
	}
	return n, err
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// sessionTime is far more than an election takes.
const sessionTime = 6 * time.Second

// open opens a client of the servers, and waits until it has a session.
func (s *servers) open(numbers ...int) (*client, error) {
	return s.openAs(sessionTime, &shaken{}, numbers...)
}

func (s *servers) openAs(timeout time.Duration, h *shaken, numbers ...int) (*client, error) {
	c := &client{s: s, hosts: &hosts{}, shaken: h}
	c.goTo(numbers...)
	conn, _, err := zk.Connect([]string{nowhere}, timeout, zk.WithHostProvider(c.hosts), zk.WithDialer(h.dial),
		zk.WithLogger(silent{}), zk.WithEventCallback(c.event))
	if err != nil {
		return nil, err
	}
	c.Conn = conn
	s.clients = append(s.clients, c)
	return c, until("a session", func() bool { return c.State() == zk.StateHasSession })
}

// leaveAll ends the clients of a check, at a server that can be reached.
func (s *servers) leaveAll() {
	for _, c := range s.clients {
		c.goTo(voters...)
		c.Close()
	}
	s.clients = nil
}

func (c *client) event(e zk.Event) {
	if e.Type == zk.EventSession {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.states = append(c.states, e.State)
	}
}

// goTo says which servers are to be connected to from now on.
func (c *client) goTo(numbers ...int) {
	c.hosts.mu.Lock()
	defer c.hosts.mu.Unlock()
	c.hosts.list = nil
	for _, n := range numbers {
		c.hosts.list = append(c.hosts.list, c.s.address[n])
	}
}

func (c *client) saw(state zk.State) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.states {
		if s == state {
			return true
		}
	}
	return false
}

// lost tells whether an operation's outcome is not known. A request that go-zookeeper is just writing when the connection
// ends fails with what the socket says.
func lost(err error) bool {
	var socket *net.OpError
	return errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrNoServer) || errors.As(err, &socket)
}

// again asks until the answer is one.
func again(f func() error) error {
	deadline := time.Now().Add(wait)
	for {
		err := f()
		if !lost(err) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *client) make(path, data string, flags int32) error {
	_, err := c.Create(path, []byte(data), flags, zk.WorldACL(zk.PermAll))
	return err
}
