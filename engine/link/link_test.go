package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
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

// Pipe says who it is, and gives everything back.
func (r *room) Pipe(from uint64, c net.Conn) {
	if _, err := fmt.Fprintf(c, "hello %d;", from); err == nil {
		_, _ = io.Copy(c, c)
	}
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

// hail opens a connection by hand and says hello.
func hail(t *testing.T, l *Link, hello []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	return c
}

// knock opens a connection, says hello and returns the answer; the connection must then end.
func knock(t *testing.T, l *Link, hello []byte) verdict {
	t.Helper()
	c := hail(t, l, hello)
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
