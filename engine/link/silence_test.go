package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cairn/platform/observe"
)

// through opens two boxes; what the first dials goes through wrap.
func through(t *testing.T, wrap func(net.Conn) net.Conn) (a *Link, near, far *room) {
	t.Helper()
	near, far = &room{}, &room{}
	b := begin(t, testConfig(2), far)
	cfg := testConfig(1)
	cfg.Peers = map[uint64]string{2: b.Address().String()}
	deps := testDeps()
	deps.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := net.Dial(network, address)
		if err != nil {
			return nil, err
		}
		return wrap(c), nil
	}
	a = beginOn(t, cfg, deps, near)
	b.peers = map[uint64]string{1: a.Address().String()}
	a.Start()
	b.Start()
	up(t, a, 2)
	return a, near, far
}

// A connection that was cut silently is found by its probes, and not when TCP gives up.
func TestASilentPeerIsFound(t *testing.T) {
	gate := &gate{}
	a, near, _ := through(t, func(c net.Conn) net.Conn { return &gated{c, gate} })
	gate.shut()
	eventually(t, "the silence is found", func() bool {
		a.Send(Raft, 2, []byte("?"), false)
		return near.see(func(r *room) bool { return r.lost > 0 })
	})
}

// A box that is heard and hears nothing finds out by its probes, and its end of the connection tells the other in the time
// of an election.
func TestABoxThatHearsNothingSaysSo(t *testing.T) {
	gate := &gate{}
	a, near, far := through(t, func(c net.Conn) net.Conn { return &deafened{c, gate} })
	gate.shut()
	began := time.Now()
	eventually(t, "the other box is told", func() bool { return far.see(func(r *room) bool { return r.gone > 0 }) })
	if took := time.Since(began); took > 1500*time.Millisecond { // 625 ms, and a busy machine
		t.Errorf("it was told after %v", took)
	}
	eventually(t, "what is sent on the other lane is lost", func() bool {
		a.Send(Raft, 2, []byte("?"), false)
		return near.see(func(r *room) bool { return r.lost > 0 })
	})
}

// A connection that is not answered is replaced by one that is, and the other box does not take this one for gone; what was
// under way on it is reported, for either lane.
func TestAConnectionThatIsStuckIsReplaced(t *testing.T) {
	interval := probeInterval[kindBulk]
	t.Cleanup(func() { probeInterval[kindBulk] = interval })
	probeInterval[kindBulk] = time.Hour // what the urgent lane finds is enough for the other to look
	var gates gates
	a, near, far := through(t, func(c net.Conn) net.Conn { return &gated{c, gates.next()} })
	a.Send(Raft, 2, []byte("before"), true)
	eventually(t, "the lane is in use", func() bool { return far.see(func(r *room) bool { return len(r.got) == 1 }) })
	gates.shut()
	began := time.Now()
	a.Send(Raft, 2, []byte("under way"), false)
	a.Send(Raft, 2, []byte("under way"), true)
	eventually(t, "both lanes have told of the loss", func() bool { return near.see(func(r *room) bool { return r.lost >= 2 }) })
	a.Send(Raft, 2, []byte("behind"), false)
	a.Send(Raft, 2, []byte("urgently behind"), true)
	eventually(t, "messages go on", func() bool { return far.see(func(r *room) bool { return len(r.got) == 3 }) })
	if took := time.Since(began); took > idleMax/2 { // 375 ms, and a busy machine; after idleMax the other box ends it anyway
		t.Errorf("it took %v", took)
	}
	if far.see(func(r *room) bool { return r.gone > 0 }) {
		t.Error("the other box took this one for gone")
	}
	if n := gates.count(); n != 4 {
		t.Errorf("%d connections, want the two lanes' first and second ones", n)
	}
}

// gates are those of many connections: shutting them leaves alone what is opened after.
type gates struct {
	mu  sync.Mutex
	all []*gate
}

func (g *gates) next() *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, &gate{})
	return g.all[len(g.all)-1]
}

func (g *gates) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range g.all {
		one.shut()
	}
}

func (g *gates) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.all)
}

// alone opens a box whose only peer, 2, is played by hand.
func alone(t *testing.T) (*Link, *room) {
	t.Helper()
	r := &room{}
	cfg := testConfig(1)
	cfg.Peers = map[uint64]string{2: "127.0.0.1:1"} // which nobody answers
	l := begin(t, cfg, r)
	l.Start()
	return l, r
}

// urgentHello is what a process of box 2 says on its urgent lane to box 1.
func urgentHello(process uint64) hello {
	return hello{kind: kindUrgent, from: 2, to: 1, process: process, cluster: "test"}
}

// A process that is started anew ends what its predecessor left, and that one is gone.
func TestASuccessorEndsWhatWasLeft(t *testing.T) {
	l, r := alone(t)
	gone := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.gone
	}
	greet(t, l, urgentHello(7), true)
	_ = greet(t, l, urgentHello(8), false).Close() // it died before it said anything
	greet(t, l, urgentHello(7), true)
	greet(t, l, urgentHello(7), true)
	if n := gone(); n != 0 {
		t.Errorf("gone %d times while one process has opened three connections", n)
	}
	greet(t, l, urgentHello(9), true)
	if n := gone(); n != 1 {
		t.Errorf("gone %d times when another process has spoken, want the one before", n)
	}
	_ = greet(t, l, urgentHello(9), true).Close()
	eventually(t, "and this one", func() bool { return gone() == 2 })
}

// What comes late on a connection whose successor has spoken is not taken, and its end is nobody's.
func TestALateSpeakerIsNotHeard(t *testing.T) {
	l, r := alone(t)
	old := greet(t, l, urgentHello(7), false) // what it says is under way
	succeeding := greet(t, l, urgentHello(8), true)
	if _, err := old.Write([]byte("\x00\x00\x00\x03old")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(old); err != nil && !errors.Is(err, syscall.ECONNRESET) || len(b) != 0 {
		t.Fatalf("the old one was answered with %x, %v", b, err)
	}
	if _, err := succeeding.Write([]byte("\x00\x00\x00\x03new")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new one is heard", func() bool { return r.see(func(r *room) bool { return len(r.got) > 0 }) })
	r.see(func(r *room) bool {
		if r.got[0] != "2:new" || r.gone != 0 {
			t.Errorf("got %q, gone %d times", r.got, r.gone)
		}
		return true
	})
}

// A box that greets and answers nothing is silent, on however many connections.
func TestABoxThatOnlyGreetsIsSilent(t *testing.T) {
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := readHello(c); err == nil {
					_, _ = c.Write([]byte{byte(verdictOK)})
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	cfg, deps := testConfig(1), testDeps()
	cfg.Peers = map[uint64]string{2: door.Addr().String()}
	said := make(chan string, 100)
	o := *observe.Discard()
	o.Log = slog.New(slog.NewTextHandler(lines(said), nil))
	deps.Observer = &o
	l := beginOn(t, cfg, deps, &room{})
	l.Start()
	for {
		select {
		case line := <-said:
			if strings.Contains(line, "a box is silent") {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it is not found silent")
		}
	}
}

// lines takes the lines of a log, as many as there is room for.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}

// A lane that waits in a write for room goes on when the other lane has found that its connection is stuck.
func TestAStuckWriteIsGivenUp(t *testing.T) {
	var gates gates
	a, _, far := through(t, func(c net.Conn) net.Conn { return &full{Conn: c, gate: gates.next(), closed: make(chan struct{})} })
	a.Send(Raft, 2, []byte("before"), false)
	eventually(t, "the lane is in use", func() bool { return far.see(func(r *room) bool { return len(r.got) == 1 }) })
	gates.shut()
	began := time.Now()
	eventually(t, "messages go on", func() bool {
		a.Send(Raft, 2, []byte("behind"), false)
		return far.see(func(r *room) bool { return len(r.got) > 1 })
	})
	if took := time.Since(began); took > idleMax/2 { // 400 ms, and a busy machine; after idleMax the write is given up anyway
		t.Errorf("it took %v", took)
	}
}

// full has no room for anything long once its gate is shut, until it is closed or the write's deadline has passed.
type full struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (f *full) Write(b []byte) (int, error) {
	switch {
	case !f.gate.isShut():
		return f.Conn.Write(b)
	case len(b) <= 4:
		return len(b), nil // a probe finds room
	}
	select {
	case <-f.closed:
		return 0, net.ErrClosed
	case <-time.After(idleMax):
		return 0, os.ErrDeadlineExceeded
	}
}

func (f *full) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Conn.Close()
}

// Another box that was stopped for a moment answers and greets at the same time: nothing is lost.
func TestABoxThatPausedHasLostNothing(t *testing.T) {
	var dialled, held atomic.Int64
	var paused gate
	a, near, far := through(t, func(c net.Conn) net.Conn {
		dialled.Add(1)
		return &late{c, &paused, &held}
	})
	t.Cleanup(paused.open) // before the links are closed
	for range 6 {
		before := dialled.Load()
		paused.shut()
		a.Send(Raft, 2, []byte("under way"), false)
		eventually(t, "both lanes dial beside", func() bool { return dialled.Load() >= before+2 })
		paused.open()
		got := 0
		far.see(func(r *room) bool { got = len(r.got); return true })
		a.Send(Raft, 2, []byte("behind"), false)
		eventually(t, "messages go on", func() bool { return held.Load() == 0 && far.see(func(r *room) bool { return len(r.got) > got }) })
	}
	near.see(func(r *room) bool {
		if r.lost > 0 {
			t.Errorf("%d losses", r.lost)
		}
		return true
	})
}

// late reads nothing while the gate is shut.
type late struct {
	net.Conn
	gate *gate
	held *atomic.Int64 // reads that wait for the gate
}

func (l *late) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.held.Add(1)
	defer l.held.Add(-1)
	l.gate.pass()
	return n, err
}

// greet opens a connection by hand, is greeted, and may say something on it.
func greet(t *testing.T, l *Link, h hello, speak bool) net.Conn {
	t.Helper()
	c := hail(t, l, h.append(nil))
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil || verdict(answer[0]) != verdictOK {
		t.Fatalf("answer %v, %v", answer, err)
	}
	if speak {
		if _, err := c.Write(make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer[:]); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// deafened hears nothing once the gate is shut.
type deafened struct {
	net.Conn
	gate *gate
}

func (d *deafened) Read(b []byte) (int, error) {
	for {
		n, err := d.Conn.Read(b)
		if err != nil || !d.gate.isShut() {
			return n, err
		}
	}
}

// gate lets nothing through once it is shut: what is written seems to be sent, and nothing is heard.
type gate struct {
	mu     sync.Mutex
	closed bool
	opened chan struct{} // closed when it is open again
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.opened = true, make(chan struct{})
}

// open lets through again, and pass waits for it.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		close(g.opened)
	}
	g.closed = false
}

func (g *gate) pass() {
	g.mu.Lock()
	closed, opened := g.closed, g.opened
	g.mu.Unlock()
	if closed {
		<-opened
	}
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

type gated struct {
	net.Conn
	gate *gate
}

func (g *gated) Write(b []byte) (int, error) {
	if g.gate.isShut() {
		return len(b), nil
	}
	return g.Conn.Write(b)
}
