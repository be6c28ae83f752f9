package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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

// room is a Handler that remembers.
type room struct {
	mu      sync.Mutex
	got     []string
	streams []string
	lost    int
	gone    int
	refuse  error
}

func (r *room) Message(from uint64, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, fmt.Sprintf("%d:%s", from, b))
}

func (r *room) Stream(from uint64, head []byte, size int64, s io.Reader) error {
	b, err := io.ReadAll(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams = append(r.streams, fmt.Sprintf("%d:%s:%d:%d", from, head, size, len(b)))
	return errors.Join(err, r.refuse)
}

func (r *room) Ask(from uint64, question []byte) []byte {
	if string(question) == "silence" {
		return nil
	}
	return fmt.Appendf(nil, "box %d asked %s", from, question)
}

func (r *room) Lost(uint64, bool) { r.count(&r.lost) }
func (r *room) Gone(uint64)       { r.count(&r.gone) }

func (r *room) count(n *int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*n++
}

func (r *room) see(f func(r *room) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f(r)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to pass: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func testConfig(box uint64) Config {
	return Config{Box: box, Cluster: "test", Listen: "127.0.0.1:0", MessageBytesMax: 1 << 20, StreamBytesMax: 64 << 20, QueueBytesMax: 4 << 20, QueueMax: 1000}
}

func testDeps() Deps { return Deps{Listen: net.Listen, Dial: new(net.Dialer).DialContext} }

// pair opens two boxes that know each other.
func pair(t *testing.T) (a, b *Link, roomA, roomB *room) {
	t.Helper()
	roomA, roomB = &room{}, &room{}
	a, b = begin(t, testConfig(1), roomA), begin(t, testConfig(2), roomB)
	a.peers = map[uint64]string{2: b.Address().String()}
	b.peers = map[uint64]string{1: a.Address().String()}
	a.Start()
	b.Start()
	up(t, a, 2)
	up(t, b, 1)
	return a, b, roomA, roomB
}

func begin(t *testing.T, cfg Config, r *room) *Link {
	t.Helper()
	return beginOn(t, cfg, testDeps(), r)
}

func beginOn(t *testing.T, cfg Config, deps Deps, r *room) *Link {
	t.Helper()
	l, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	l.Handle(Raft, r)
	if err := l.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// up waits until both lanes to a box are connected.
func up(t *testing.T, l *Link, to uint64) {
	t.Helper()
	eventually(t, "the lanes are connected", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, k := range []kind{kindBulk, kindUrgent} {
			w := l.lanes[laneID{to, Raft, k}]
			if w == nil {
				return false
			}
			w.mu.Lock()
			connected := w.up
			w.mu.Unlock()
			if !connected {
				return false
			}
		}
		return true
	})
}

func TestMessagesArriveInOrder(t *testing.T) {
	a, b, roomA, roomB := pair(t)
	for n := range 500 {
		a.Send(Raft, 2, fmt.Appendf(nil, "m%d", n), false)
	}
	b.Send(Raft, 1, []byte("urgent"), true)
	eventually(t, "all have come", func() bool {
		return roomB.see(func(r *room) bool { return len(r.got) == 500 }) && roomA.see(func(r *room) bool { return len(r.got) == 1 })
	})
	for n, got := range roomB.got {
		if got != fmt.Sprintf("1:m%d", n) {
			t.Fatalf("message %d is %q", n, got)
		}
	}
	if roomA.got[0] != "2:urgent" {
		t.Fatal(roomA.got)
	}
}

func TestAStreamIsAnswered(t *testing.T) {
	a, _, _, roomB := pair(t)
	body := bytes.Repeat([]byte("x"), 3<<20)
	if err := a.Stream(Raft, 2, []byte("head"), int64(len(body)), bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("1:head:%d:%d", len(body), len(body)); roomB.streams[0] != want {
		t.Fatalf("stream %q, want %q", roomB.streams[0], want)
	}
	roomB.refuse = errors.New("no room")
	if err := a.Stream(Raft, 2, []byte("head"), 5, strings.NewReader("hello")); err == nil {
		t.Fatal("a stream that was not taken is no success")
	}
	if err := a.Stream(Raft, 2, []byte("head"), 10, strings.NewReader("short")); err == nil {
		t.Fatal("a stream that ended early is no success")
	}
	if err := a.Stream(Raft, 9, nil, 1, strings.NewReader("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("a stream to nobody: %v", err)
	}
}

// A peer that dies is noticed at once, what is sent to it is reported as lost, and when it is back messages go on.
func TestAPeerComesBack(t *testing.T) {
	a, b, roomA, _ := pair(t)
	address := b.Address().String()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end is noticed", func() bool { return roomA.see(func(r *room) bool { return r.gone > 0 }) })
	eventually(t, "what is sent is lost", func() bool {
		a.Send(Raft, 2, []byte("into the void"), false)
		return roomA.see(func(r *room) bool { return r.lost > 0 })
	})
	again := &room{}
	cfg := testConfig(2)
	cfg.Listen, cfg.Peers = address, map[uint64]string{1: a.Address().String()}
	c := begin(t, cfg, again)
	c.Start()
	eventually(t, "messages come again", func() bool {
		a.Send(Raft, 2, []byte("hello"), false)
		return again.see(func(r *room) bool { return len(r.got) > 0 })
	})
}

// A queue that is full loses what comes, and says so; it does not grow.
func TestAFullQueueLosesAndSaysSo(t *testing.T) {
	a, _, roomA, _ := pair(t)
	big := make([]byte, 1<<20)
	eventually(t, "a loss is reported", func() bool {
		for range 50 {
			a.Send(Raft, 2, big, false)
		}
		return roomA.see(func(r *room) bool { return r.lost > 0 })
	})
	a.Send(Raft, 2, make([]byte, 1<<20+1), true)
	eventually(t, "a message that is too long is lost", func() bool { return roomA.see(func(r *room) bool { return r.lost > 1 }) })
}

// Whoever does not belong here is told why and closed.
func TestStrangersAreRefused(t *testing.T) {
	a, _, _, _ := pair(t)
	good := hello{protocol: Raft, kind: kindBulk, from: 2, to: 1, cluster: "test"}
	for name, c := range map[string]struct {
		change func(h *hello)
		want   verdict
	}{
		"itself":           {func(h *hello) { h.from = 1 }, verdictBox},
		"another box":      {func(h *hello) { h.to = 3 }, verdictBox},
		"another cluster":  {func(h *hello) { h.cluster = "other" }, verdictCluster},
		"another protocol": {func(h *hello) { h.protocol = 77 }, verdictProtocol},
		"an unknown box":   {func(h *hello) { h.from = 12 }, verdictUnknown},
	} {
		h := good
		c.change(&h)
		if got := knock(t, a, h.append(nil)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if got := knock(t, a, []byte("GET / HTTP/1.1\r\nHost: somebody\r\n\r\n")); got != verdictVersion {
		t.Errorf("a browser: %d", got)
	}
	b := good.append(nil)
	b[8] = 9
	if got := knock(t, a, b); got != verdictVersion {
		t.Errorf("another version: %d", got)
	}
}

// knock opens a connection, says hello and returns the answer; the connection must then end.
func knock(t *testing.T, l *Link, hello []byte) verdict {
	t.Helper()
	c, err := net.Dial("tcp", l.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(io.LimitReader(c, 10))
	if len(answer) != 1 {
		t.Fatalf("answer %x, %v", answer, err)
	}
	return verdict(answer[0])
}

// Lengths are checked before anything is allocated from them.
func TestALengthThatLies(t *testing.T) {
	if _, err := readMessage(bytes.NewReader(binary.BigEndian.AppendUint32(nil, 1<<31)), 1<<20); err == nil {
		t.Fatal("a message beyond the maximum was read")
	}
	if n := testing.AllocsPerRun(10, func() {
		if _, err := readMessage(bytes.NewReader(binary.BigEndian.AppendUint32(nil, 1<<30)), 1<<30); err == nil {
			t.Error("a message that did not come was read")
		}
	}); n > 10 {
		t.Errorf("%v allocations for bytes that did not come", n)
	}
}

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

// A process that is started anew ends what its predecessor left, and that one is gone.
func TestASuccessorEndsWhatWasLeft(t *testing.T) {
	r := &room{}
	cfg := testConfig(1)
	cfg.Peers = map[uint64]string{2: "127.0.0.1:1"} // which nobody answers
	l := begin(t, cfg, r)
	l.Start()
	gone := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.gone
	}
	of := func(process uint64) hello {
		return hello{kind: kindUrgent, from: 2, to: 1, process: process, cluster: "test"}
	}
	greet(t, l, of(7), true)
	_ = greet(t, l, of(8), false).Close() // it died before it said anything
	greet(t, l, of(7), true)
	greet(t, l, of(7), true)
	if n := gone(); n != 0 {
		t.Errorf("gone %d times while one process has opened three connections", n)
	}
	greet(t, l, of(9), true)
	if n := gone(); n != 1 {
		t.Errorf("gone %d times when another process has spoken, want the one before", n)
	}
	_ = greet(t, l, of(9), true).Close()
	eventually(t, "and this one", func() bool { return gone() == 2 })
}

// What comes late on a connection whose successor has spoken is not taken, and its end is nobody's.
func TestALateSpeakerIsNotHeard(t *testing.T) {
	r := &room{}
	cfg := testConfig(1)
	cfg.Peers = map[uint64]string{2: "127.0.0.1:1"} // which nobody answers
	l := begin(t, cfg, r)
	l.Start()
	of := func(process uint64) hello {
		return hello{kind: kindUrgent, from: 2, to: 1, process: process, cluster: "test"}
	}
	old := greet(t, l, of(7), false) // what it says is under way
	succeeding := greet(t, l, of(8), true)
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
	for err == nil && l.gate.isShut() {
		time.Sleep(time.Millisecond)
	}
	return n, err
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}

// greet opens a connection by hand, and says something on it.
func greet(t *testing.T, l *Link, h hello, speak bool) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(h.append(nil)); err != nil {
		t.Fatal(err)
	}
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
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
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
