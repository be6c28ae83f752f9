package kafkaserver

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/wire"
	"cairn/engine/limits"
	"cairn/platform/clock"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// hostileFrame is a frame with a header that is in order and a body that is not.
func hostileFrame(key, version int16, body []byte) []byte {
	head := binary.BigEndian.AppendUint16(nil, uint16(key))
	head = binary.BigEndian.AppendUint16(head, uint16(version))
	head = append(head, 0, 0, 0, 1, 0xff, 0xff)
	if s := wire.SchemaOf(key); s != nil && s.Flexible(version) {
		head = append(head, 0)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(head)+len(body)))
	return append(append(frame, head...), body...)
}

// manyPartitions is a Produce body, in order, of one topic with n partitions that hold nothing.
func manyPartitions(n int) []byte {
	b := []byte("\xff\xff\x00\x01\x00\x00\x03\xe8\x00\x00\x00\x01\x00\x01t")
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	for i := range n {
		b = binary.BigEndian.AppendUint32(b, uint32(i))
		b = append(b, 0xff, 0xff, 0xff, 0xff)
	}
	return b
}

// Frames that lie about themselves close their connection, cost next to nothing, and leave the server as it was.
func TestHostileFrames(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.FrameTimeout = 200 * time.Millisecond }))
	r.topic("t", 1)
	ten := make([]byte, 10<<20)
	copy(ten, "\xff\xff\x00\x01\x00\x00\x03\xe8\x00\x9f\xff\xf0") // Produce v3 with as many topics as bytes
	cases := map[string][]byte{
		"length 0":                   {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"length 7":                   {0, 0, 0, 7, 0, 18, 0, 0, 0, 0, 0},
		"length 2^31-1":              {0x7f, 0xff, 0xff, 0xff, 0, 18, 0, 0, 0, 0, 0, 0},
		"length -1":                  {0xff, 0xff, 0xff, 0xff, 0, 18, 0, 0, 0, 0, 0, 0},
		"length over the maximum":    append(binary.BigEndian.AppendUint32(nil, uint32(r.limits.FrameBytesMax+1)), make([]byte, 20)...),
		"HTTP":                       []byte("GET / HTTP/1.1\r\nHost: kafka\r\n\r\n"),
		"TLS hello":                  {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 0, 0},
		"cut frame":                  {0, 0, 0, 100, 0, 18, 0, 3, 0, 0, 0, 1, 0, 0},
		"no client id":               {0, 0, 0, 8, 0, 18, 0, 0, 0, 0, 0, 1},
		"tag bomb in the header":     {0, 0, 0, 15, 0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"tag bomb in the body":       hostileFrame(18, 3, []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}),
		"topic bomb":                 hostileFrame(0, 3, ten),
		"count of 2^31-1":            hostileFrame(3, 1, []byte{0x7f, 0xff, 0xff, 0xff}),
		"Metadata of 9 MiB":          hostileFrame(3, 1, make([]byte, 9<<20)),
		"a million partitions":       hostileFrame(0, 3, manyPartitions(1_000_000)),
		"negative count":             hostileFrame(3, 1, []byte{0x80, 0, 0, 0}),
		"partition bomb in Fetch 12": hostileFrame(1, 12, append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 'x'}, 0xff, 0xff, 0xff, 0x7f)),
	}
	for name, frame := range cases {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			c := r.dial()
			_, _ = c.conn.Write(frame) // the server may close before all of it is written
			if !c.closedByServer() {
				t.Error("still open")
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(4*len(frame)+1<<20) {
				t.Errorf("%d bytes allocated for %d", grown, len(frame))
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
	r.wait("connections gone", func() bool { return r.open.Load() == 0 })
	r.wait("memory given back", func() bool { used, _ := r.budget.load(); return used == 0 })
	if got := r.dial().produce("t", 0, "still here"); got != 0 {
		t.Error(got)
	}
}

// Random damage to honest requests: answered or disconnected, never worse.
func TestDamagedRequests(t *testing.T) {
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.FrameTimeout = 100 * time.Millisecond }))
	r.topic("t", 1)
	const seed = 42
	random := rand.New(rand.NewPCG(seed, seed))
	batches := batchOf(func(o *batch.Options) { o.Codec = batch.Zstd }, "a", "b")
	template := &client{t: t}
	frames := [][]byte{
		template.frame(9, produceRequest("t", 0, -1, batches)), template.frame(12, fetchRequest("t", 0, 0)),
		template.frame(9, metadataRequest("t", "u")), template.frame(3, kmsg.NewPtrApiVersionsRequest()),
	}
	var c *client
	for i := range 600 {
		if c == nil {
			c = r.dial()
		}
		frame := append([]byte(nil), frames[random.IntN(len(frames))]...)
		for range 1 + random.IntN(3) {
			frame[8+random.IntN(len(frame)-8)] = byte(random.Uint32())
		}
		copy(frame[8:], []byte{0, 0, 0, 9}) // keep the correlation id, and key, version and length before it
		c.write(frame)
		// A Produce may have become one with acks=0, a Fetch a long poll: those need not be answered soon.
		patience, quiet := 20*time.Second, frame[5] == wire.KeyProduce || frame[5] == wire.KeyFetch
		if quiet {
			patience = 20 * time.Millisecond
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(patience))
		if _, _, err := c.readFrame(); err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() && !quiet {
				t.Fatalf("seed %d, frame %d: no answer and no end: %x", seed, i, frame)
			}
			_ = c.conn.Close()
			c = nil
		}
	}
}

// Thousands of connections, most beyond the maximum: those within are served.
func TestThousandsOfConnections(t *testing.T) {
	const limit, clients = 200, 2000
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.ConnectionsMax, l.ConnectionsPerAddressMax = limit, limit }))
	first := r.dial()
	ask(first, 0, kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse())
	var group sync.WaitGroup
	gate := make(chan struct{}, 100)
	for range clients {
		group.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			nc, err := net.Dial("tcp", r.address)
			if err != nil {
				return
			}
			_, _ = nc.Write([]byte{0, 0, 0})
			time.AfterFunc(20*time.Millisecond, func() { _ = nc.Close() })
			if n := r.open.Load(); n > limit {
				t.Errorf("%d connections", n)
			}
		})
	}
	group.Wait()
	ask(first, 0, kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse())
	r.wait("connections gone", func() bool { return r.open.Load() == 1 })
}

// smallBuffers has the kernel keep little of what is written to a connection.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(4096)
	}
	return nc, err
}

// Many clients ask for everything and read nothing: what is held for them is bounded by the memory for requests and
// the answers that a few bulky requests make at a time, not by the clients.
func TestBulkyAnswersAreBounded(t *testing.T) {
	const budget, clients = 2 << 20, 60
	r := newRig(t, withLimits(func(l *limits.Kafka) { l.RequestBytesMax, l.BulkyMax = budget, 2 }),
		func(c *rigConfig) {
			c.deps.Listen = func(network, address string) (net.Listener, error) {
				l, err := net.Listen(network, address)
				return smallBuffers{l}, err
			}
		})
	r.declare("many", 8000, rigBroker)
	one := int64(len(kmsgAnswer(r)))
	for range clients {
		c := r.dial()
		_ = c.conn.(*net.TCPConn).SetReadBuffer(4096)
		frame := c.frame(9, kmsg.NewPtrMetadataRequest())
		c.write(append(append([]byte(nil), frame...), frame...))
	}
	r.wait("memory used up", func() bool { used, _ := r.budget.load(); return used > budget-one })
	worst := int64(0)
	for range 100 {
		used, _ := r.budget.load()
		worst = max(worst, used)
		time.Sleep(time.Millisecond)
	}
	if worst > budget+2*one {
		t.Errorf("%d bytes held, with a budget of %d and answers of %d", worst, budget, one)
	}
	if clients*one < 3*budget {
		t.Errorf("answers of %d bytes prove nothing", one)
	}
}

// kmsgAnswer is the answer to a request for all metadata.
func kmsgAnswer(r *rig) []byte {
	c := r.dial()
	c.send(9, kmsg.NewPtrMetadataRequest())
	_, b, err := c.readFrame()
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.conn.Close()
	return b
}

// fuzzTable is the table, for the fuzz target.
var fuzzTable = sync.OnceValue(newTable)

// FuzzRequest feeds a frame, after its length, to what stands between the socket and a handler: header, prescan, decode.
// What the prescan accepts must decode, and cost no more than it said.
func FuzzRequest(f *testing.F) {
	c := &client{}
	for _, req := range []kmsg.Request{produceRequest("t", 0, -1, batchOf(nil, "v")), fetchRequest("t", 0, 0), metadataRequest("t")} {
		for _, version := range []int16{3, 4, 9, 12} {
			if version <= req.MaxVersion() {
				f.Add(c.frame(version, req)[4:])
			}
		}
	}
	table := fuzzTable()
	for i := range table {
		a := &table[i]
		for version := a.min; version <= a.max; version++ {
			f.Add(c.frame(version, a.new())[4:])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < wire.HeaderMin || len(b) > 1<<20 {
			return
		}
		route := wire.ParseRoute(b)
		a := table.find(route.Key)
		if a == nil || !a.serves(route.Version) {
			return
		}
		_, body, err := wire.ParseHeader(b, a.schema.Flexible(route.Version))
		if err != nil {
			return
		}
		decoded, err := wire.Prescan(a.schema, route.Version, body, a.borrows)
		if err != nil {
			return
		}
		if decoded > wire.DecodedFactor*int64(len(body))+wire.DecodedSlack {
			t.Errorf("%d bytes from %d", decoded, len(body))
		}
		req := a.new()
		req.SetVersion(route.Version)
		if err := decode(a, req, body); err != nil {
			t.Errorf("%s v%d: accepted, but %v", a.name, route.Version, err)
		}
	})
}

// FuzzProducedBatch feeds bytes to the checks of a produced batch.
func FuzzProducedBatch(f *testing.F) {
	for codec := batch.None; codec <= batch.Zstd; codec++ {
		f.Add(batchOf(func(o *batch.Options) { o.Codec = codec }, "a", "b"), int16(9))
	}
	r := newRig(f)
	r.declare("t", 1, rigBroker, "cairn.validate.compressed", "true", "cleanup.policy", "compact")
	topic := r.catalog.Current().Topic("t")
	f.Fuzz(func(t *testing.T, b []byte, version int16) {
		if len(b) > batch.HeaderSize {
			fixCRC(b) // or nothing behind the CRC would ever be looked at
		}
		if err := r.checkProduced(b, topic, version, clock.Now{Wall: time.UnixMilli(1_700_000_000_000)}); err != nil {
			if produceCode(r.Server, err) == codeUnknownServerError {
				t.Errorf("no code for %v", err)
			}
		}
	})
}
