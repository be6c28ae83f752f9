package zkserver

import (
	"crypto/rand"
	"net"
	"sync"
	"testing"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/limits"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/syncer"
	"cairn/platform/vfs"
)

// trio is three servers of one ensemble. What they send each other passes in order and can be cut off.
type trio struct {
	t     testing.TB
	boxes map[uint64]*box

	mu    sync.Mutex
	cut   map[uint64]bool // boxes that reach nobody
	lines map[[2]uint64]chan []byte
	over  chan struct{}
}

// startTrio opens three servers and waits until all of them serve.
func startTrio(t testing.TB, change func(*ensemble.Config, *Config)) *trio {
	t.Helper()
	n := &trio{t: t, boxes: map[uint64]*box{}, cut: map[uint64]bool{}, lines: map[[2]uint64]chan []byte{}, over: make(chan struct{})}
	t.Cleanup(func() { close(n.over) }) // the last: nothing is carried any more
	for id := uint64(1); id <= 3; id++ {
		b := n.open(id, change)
		n.mu.Lock()
		n.boxes[id] = b
		n.mu.Unlock()
	}
	eventually(t, func() bool { return n.boxes[1].e.Serving() && n.boxes[2].e.Serving() && n.boxes[3].e.Serving() })
	return n
}

func (n *trio) open(id uint64, change func(*ensemble.Config, *Config)) *box {
	t := n.t
	rt := mailbox.NewThreads(clock.System())
	sync := syncer.New(rt, syncer.Config{Name: "test"})
	l := limits.Derive(512 << 20).ZooKeeper
	ec := ensemble.Config{Dir: t.TempDir(), Box: id, Voters: []uint64{1, 2, 3}, Limits: l, TickTime: 50 * time.Millisecond,
		SessionTimeoutMin: 100 * time.Millisecond, SessionTimeoutMax: 40 * time.Second}
	sc := Config{Limits: l, SuperDigest: superDigest, TickTime: 50 * time.Millisecond}
	sc.Admin.Version, sc.Admin.Words = "3.9.5-test", []string{"*"}
	if change != nil {
		change(&ec, &sc)
	}
	observer := observe.Discard()
	e, err := ensemble.Open(ec, ensemble.Deps{Runtime: rt, FS: vfs.OS(), Syncer: sync, Observer: observer, Random: rand.Reader, Transport: carrier{n, id}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(sc, Deps{Ensemble: e, Clock: clock.System(), Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Close()
		<-served
		_ = e.Close()
		sync.Close()
	})
	return &box{Server: s, address: listener.Addr().String(), e: e}
}

// carrier is one box's Transport.
type carrier struct {
	n    *trio
	from uint64
}

func (c carrier) Send(to uint64, message []byte, _ bool) {
	n := c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	line := n.lines[[2]uint64{c.from, to}]
	if line == nil {
		line = make(chan []byte, 4096)
		n.lines[[2]uint64{c.from, to}] = line
		go n.carry(c.from, to, line)
	}
	select {
	case line <- message:
	default: // lost, as on a network
	}
}

func (c carrier) SendSnapshot(to, index uint64, _ []byte) {
	c.n.t.Errorf("box %d sends box %d snapshot %d", c.from, to, index)
}

func (n *trio) carry(from, to uint64, line chan []byte) {
	for {
		select {
		case <-n.over:
			return
		case message := <-line:
			n.mu.Lock()
			b, cut := n.boxes[to], n.cut[from] || n.cut[to]
			n.mu.Unlock()
			if b != nil && !cut {
				_ = b.e.Receive(from, message) // what it does not take is lost
			}
		}
	}
}

// isolate cuts boxes off from all others, heal undoes it.
func (n *trio) isolate(ids ...uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range ids {
		n.cut[id] = true
	}
}

func (n *trio) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// roles waits for a leader that all know, and gives it and a follower.
func (n *trio) roles() (leader, follower uint64) {
	n.t.Helper()
	eventually(n.t, func() bool {
		leader, follower = 0, 0
		for id, b := range n.boxes {
			s := b.e.Status()
			if !s.Serving || s.Leader == 0 {
				return false
			}
			if s.Role == "leader" {
				leader = id
			} else {
				follower = id
			}
		}
		return leader != 0 && follower != 0
	})
	return leader, follower
}

// value is what a getData answered.
func value(t testing.TB, p reply) string {
	t.Helper()
	var d jute.GetDataResponse
	r := jute.NewReader(p.body)
	d.Read(r)
	if p.Err != jute.OK || r.Err() != nil {
		t.Fatalf("read: %v, %v", p.Err, r.Err())
	}
	return string(d.Data)
}
