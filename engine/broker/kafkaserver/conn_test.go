package kafkaserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"cairn/engine/broker/replica"
	"cairn/engine/limits"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// heldReplicas passes everything through, but keeps appends back until they are let go.
type heldReplicas struct {
	Replicas
	mu   sync.Mutex
	held []func()
	hold bool
}

type heldReplica struct {
	Replica
	h *heldReplicas
}

func (h *heldReplicas) Lookup(topic string, p int32) (Replica, error) {
	rep, err := h.Replicas.Lookup(topic, p)
	return &heldReplica{rep, h}, err
}

func (r *heldReplica) Append(ctx context.Context, a *replica.AppendRequest) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if !r.h.hold {
		r.Replica.Append(ctx, a)
		return
	}
	r.h.held = append(r.h.held, func() { r.Replica.Append(context.Background(), a) })
}

func (h *heldReplicas) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

// release lets go of what is held, the last first if backwards.
func (h *heldReplicas) release(backwards bool) {
	h.mu.Lock()
	list := h.held
	h.held = nil
	h.mu.Unlock()
	for i := range list {
		if backwards {
			i = len(list) - 1 - i
		}
		list[i]()
	}
}

func (r *rig) holdAppends() *heldReplicas {
	h := &heldReplicas{Replicas: r.deps.Replicas, hold: true}
	r.deps.Replicas = h
	return h
}

// Behaviour 1: an ApiVersions of an unknown version is not parsed; every client can read the answer and goes on.
func TestBehaviour01ApiVersionsOfTheFuture(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for _, body := range []string{"", "\xff\xff\xff\xff\x0f", "anything at all"} {
		b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
		b = append(b, 0, 18, 0, 99, 0, 0, 0, 55)
		c.write(append(b, body...))
		correlation, answer, err := c.readFrame()
		if err != nil {
			t.Fatal(err)
		}
		resp := kmsg.NewPtrApiVersionsResponse()
		if err := resp.ReadFrom(answer); err != nil || correlation != 55 {
			t.Fatal(err, correlation)
		}
		found := false
		for _, k := range resp.ApiKeys {
			found = found || k.ApiKey == 18 && k.MaxVersion == 4
		}
		if resp.ErrorCode != 35 || !found {
			t.Errorf("code %d, keys %v", resp.ErrorCode, resp.ApiKeys)
		}
	}
	resp := ask(c, 0, kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse())
	if resp.ErrorCode != 0 {
		t.Error(resp.ErrorCode)
	}
}

// Behaviour 1: any other unknown key or version closes the connection without an answer.
func TestBehaviour01UnknownKeysAndVersionsClose(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ key, version int16 }{{999, 0}, {-1, 0}, {4, 0}, {0, 2}, {0, 14}, {1, 3}, {1, 19}, {2, 0}, {3, 14}, {3, -1}, {23, 1}} {
		t.Run(fmt.Sprintf("%d.%d", c.key, c.version), func(t *testing.T) {
			cl := r.dial()
			b := binary.BigEndian.AppendUint32(nil, 10)
			b = binary.BigEndian.AppendUint16(b, uint16(c.key))
			b = binary.BigEndian.AppendUint16(b, uint16(c.version))
			cl.write(append(b, 0, 0, 0, 1, 0xff, 0xff))
			if !cl.closedByServer() {
				t.Error("still open")
			}
		})
	}
}

// Behaviour 2, and the list itself: Produce is advertised from 0 (KAFKA-18659), JoinGroup would be from 0.
func TestBehaviour02ApiVersions(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "apache-kafka-java", "4.0.0"
	for _, version := range []int16{0, 1, 2, 3, 4} {
		resp := ask(c, version, req, kmsg.NewPtrApiVersionsResponse())
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(r.table) {
			t.Errorf("v%d: code %d, %d keys", version, resp.ErrorCode, len(resp.ApiKeys))
		}
		if k := resp.ApiKeys[0]; k.ApiKey != 0 || k.MinVersion != 0 || k.MaxVersion != 13 {
			t.Errorf("Produce: %+v", k)
		}
		if len(resp.FinalizedFeatures) != 0 {
			t.Error("transaction.version must not be finalized")
		}
	}
	for _, name := range []string{"", "a b", "-x", "x-", "name\n"} {
		req.ClientSoftwareName = name
		if resp := ask(c, 3, req, kmsg.NewPtrApiVersionsResponse()); resp.ErrorCode != 42 {
			t.Errorf("%q: code %d", name, resp.ErrorCode)
		}
	}
}

// Behaviour 3: answers come in the order of requests though appends end in another; only Produce is pipelined, and
// only so far.
func TestBehaviour03Order(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.PipelineMax = 5 }))
	r.topic("t", 8)
	held := r.holdAppends()
	c := r.dial()
	for p := range int32(8) {
		c.send(9, produceRequest("t", p, -1, batchOf(nil, "v")))
	}
	c.send(9, kmsg.NewPtrMetadataRequest())
	r.wait("five appends", func() bool { return held.count() == 5 })
	held.release(true)
	r.wait("the other three", func() bool { return held.count() == 3 })
	held.release(true)
	for i := range int32(8) {
		correlation, b, err := c.readFrame()
		if err != nil || correlation != i+1 {
			t.Fatalf("answer %d has correlation id %d, %v", i, correlation, err)
		}
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = 9
		if err := resp.ReadFrom(b[1:]); err != nil || resp.Topics[0].Partitions[0].Partition != i || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Errorf("answer %d: %+v %v", i, resp, err)
		}
	}
	if m := receive(c, 9, kmsg.NewPtrMetadataResponse()); len(m.Topics) != 1 {
		t.Error(m)
	}
}

// The turn of a request comes when nothing is in hand, or only as many of its own pipelined API as there may be. The
// connection has ended, so that who must wait is told so at once.
func TestTurns(t *testing.T) {
	s := &Server{limits: limits.Kafka{PipelineMax: 5, RequestBytesPerConnectionMax: 1000}}
	produce, fetch := &api{pipelined: true}, &api{}
	for name, x := range map[string]struct {
		inHand int
		of     *api
		bytes  int64
		next   *api
		free   bool
	}{
		"nothing in hand":         {0, nil, 0, fetch, true},
		"one that is alone":       {1, fetch, 0, fetch, false},
		"four in the pipeline":    {4, produce, 0, produce, true},
		"five in the pipeline":    {5, produce, 0, produce, false},
		"too many bytes":          {1, produce, 901, produce, false},
		"all the bytes":           {1, produce, 900, produce, true},
		"another API behind them": {1, produce, 0, fetch, false},
		"they behind another API": {1, fetch, 0, produce, false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := &conn{server: s, ctx: ctx, bytes: x.bytes}
		for range x.inHand {
			c.queue = append(c.queue, &request{api: x.of})
		}
		if err := c.waitTurn(x.next, 100); (err == nil) != x.free {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What cannot be parsed ends the connection, but not before what came earlier has been answered.
func TestGarbageAfterAProduce(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"length": {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, "key": {0, 0, 0, 10, 3, 0xe7, 0, 0, 0, 0, 0, 2, 0xff, 0xff},
		"body": hostileFrame(0, 9, []byte{0, 0, 1}),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.topic("t", 1)
			held := r.holdAppends()
			c := r.dial()
			c.write(append(c.frame(9, produceRequest("t", 0, -1, batchOf(nil, "v"))), garbage...))
			r.wait("append", func() bool { return held.count() == 1 })
			held.release(false)
			if resp := receive(c, 9, kmsg.NewPtrProduceResponse()); resp.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Error(resp)
			}
			if !c.closedByServer() {
				t.Error("still open")
			}
		})
	}
}

// Behaviour 4: a null client id and unknown tags are legal.
func TestBehaviour04HeaderForms(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	c.write([]byte("\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"))
	receive(c, 0, kmsg.NewPtrApiVersionsResponse())
	// v3: client id "a", two unknown header tags; name "n", version "1", one unknown tag
	c.write([]byte("\x00\x00\x00\x19\x00\x12\x00\x03\x00\x00\x00\x01\x00\x01a\x02\x40\x01x\x41\x00\x02n\x021\x01\x63\x01y"))
	if resp := receive(c, 3, kmsg.NewPtrApiVersionsResponse()); resp.ErrorCode != 0 {
		t.Error(resp.ErrorCode)
	}
}

// Behaviour 8: addresses follow the one that the client came in on, unless the listener says otherwise; idle
// connections are closed.
func TestBehaviour08AdvertisedAddress(t *testing.T) {
	r := newRig(t, withListener(ListenerConfig{Name: "PLAINTEXT", Address: "0.0.0.0:0"}))
	_, port, _ := net.SplitHostPort(r.address)
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		nc, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Skip(err)
		}
		c := &client{t: t, conn: nc}
		b := ask(c, 1, kmsg.NewPtrMetadataRequest(), kmsg.NewPtrMetadataResponse()).Brokers
		if len(b) != 1 || b[0].Host != host || fmt.Sprint(b[0].Port) != port {
			t.Errorf("%s:%s: told %+v", host, port, b)
		}
		_ = nc.Close()
	}
	r2 := newRig(t, withListener(ListenerConfig{Name: "PLAINTEXT", Address: "127.0.0.1:0", AdvertisedHost: "kafka.example", AdvertisedPort: 1234}))
	if b := ask(r2.dial(), 1, kmsg.NewPtrMetadataRequest(), kmsg.NewPtrMetadataResponse()).Brokers; b[0].Host != "kafka.example" || b[0].Port != 1234 {
		t.Errorf("told %+v", b)
	}
}

func TestBehaviour08Idle(t *testing.T) {
	r := newRig(t, withSettings(func(s *Settings) { s.ConnectionsIdle = 300 * time.Millisecond }))
	r.topic("t", 1)
	held := r.holdAppends()
	busy, idle := r.dial(), r.dial()
	busy.send(9, produceRequest("t", 0, -1, batchOf(nil, "v")))
	if !idle.closedByServer() {
		t.Error("idle connection stays")
	}
	r.wait("append", func() bool { return held.count() == 1 })
	for range 2 { // a connection that came later has been idle for too long meanwhile: one that waits for its answer is not idle
		if !r.dial().closedByServer() {
			t.Error("idle connection stays")
		}
	}
	held.release(false)
	if resp := receive(busy, 9, kmsg.NewPtrProduceResponse()); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Error(resp)
	}
	if !busy.closedByServer() {
		t.Error("idle connection stays")
	}
}

func TestConnectionLimits(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.ConnectionsMax, l.ConnectionsPerAddressMax = 5, 3 }))
	var first []*client
	for range 3 {
		c := r.dial()
		ask(c, 0, kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse())
		first = append(first, c)
	}
	if c := r.dial(); !c.closedByServer() {
		t.Error("a fourth connection from one address")
	}
	_ = first[0].conn.Close()
	r.wait("a place", func() bool { return r.open.Load() == 2 })
	ask(r.dial(), 0, kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse())
}

// Requests beyond the server's memory wait until others have been answered.
func TestRequestMemoryIsBounded(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.RequestBytesMax = 1 << 20 }))
	r.topic("t", 8)
	held := r.holdAppends()
	batch := batchOf(nil, string(make([]byte, 200<<10))) // its frame takes 256 KiB
	var clients []*client
	for p := range int32(8) {
		c := r.dial()
		frame := c.frame(9, produceRequest("t", p, -1, batch))
		go func() { _, _ = c.conn.Write(frame) }()
		clients = append(clients, c)
	}
	r.wait("as many as there is room for", func() bool { return held.count() == 3 }) // 3·256 KiB, and what they decode into
	r.wait("others in line", func() bool { _, waits := r.budget.load(); return waits == 5 })
	if n := held.count(); n != 3 {
		t.Errorf("%d in hand", n)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				held.release(false)
			}
		}
	}()
	for _, c := range clients {
		if resp := receive(c, 9, kmsg.NewPtrProduceResponse()); resp.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Error(resp)
		}
	}
	r.wait("memory given back", func() bool { used, _ := r.budget.load(); return used == 0 })
}

// A client that sends a frame byte by byte is disconnected, and takes no other connection's time.
func TestSlowloris(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.FrameTimeout = 50 * time.Millisecond }))
	slow := r.dial()
	slow.write([]byte{0, 0, 0, 40, 0, 18, 0, 0})
	header := r.dial()
	header.write([]byte{0, 0})
	ask(r.dial(), 0, kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse())
	if !slow.closedByServer() || !header.closedByServer() {
		t.Error("still open")
	}
}

// A client that fetches and never reads is disconnected, and what it held is given back.
func TestNeverReadingFetcher(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.StallTimeout = 50 * time.Millisecond }))
	r.topic("t", 1)
	c := r.dial()
	big := string(make([]byte, 900<<10))
	for range 8 {
		c.produce("t", 0, big)
	}
	_ = c.conn.(*net.TCPConn).SetReadBuffer(4096)
	req := fetchRequest("t", 0, 0)
	req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
	for range 4 {
		c.send(4, req)
	}
	r.wait("disconnection", func() bool { return r.open.Load() == 0 })
	r.wait("memory given back", func() bool { used, _ := r.budget.load(); return used == 0 })
}

func TestStopAnswersWhatIsInHand(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	held := r.holdAppends()
	c, idle := r.dial(), r.dial()
	ask(idle, 0, kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse())
	c.send(9, produceRequest("t", 0, -1, batchOf(nil, "v")))
	r.wait("append", func() bool { return held.count() == 1 })
	stopped := make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.Stop(ctx)
		close(stopped)
	}()
	if !idle.closedByServer() {
		t.Error("an idle connection survives")
	}
	held.release(false)
	if resp := receive(c, 9, kmsg.NewPtrProduceResponse()); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Error(resp)
	}
	if !c.closedByServer() {
		t.Error("still open")
	}
	<-stopped
	if _, err := net.Dial("tcp", r.address); err == nil {
		t.Error("still listening")
	}
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	held := r.holdAppends()
	c := r.dial()
	c.send(9, produceRequest("t", 0, -1, batchOf(nil, "v")))
	r.wait("append", func() bool { return held.count() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	r.Stop(ctx)
	if !c.closedByServer() {
		t.Error("still open")
	}
	held.release(false) // the append ends after its connection: nothing may be lost or counted twice
	r.wait("memory given back", func() bool { used, _ := r.budget.load(); return used == 0 })
}
