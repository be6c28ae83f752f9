package zkserver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"cairn/engine/ensemble/jute"
)

// TestHostileFrames sends frames that nobody means, each on a connection of its own. The connection must end or answer,
// and the server must serve the next one.
func TestHostileFrames(t *testing.T) {
	b := start(t, nil)
	header := func(op jute.OpCode, body ...byte) []byte {
		h := jute.RequestHeader{Xid: 7, Op: op}
		return append(h.Append(nil), body...)
	}
	ints := func(values ...int32) []byte {
		var out []byte
		for _, v := range values {
			out = jute.AppendInt32(out, v)
		}
		return out
	}
	many := func(op jute.OpCode, head []byte, n int, item []byte) []byte {
		return append(header(op, head...), bytes.Repeat(item, n)...)
	}
	multiHeader := jute.MultiHeader{Type: jute.OpCheck, Err: -1}
	check := append(multiHeader.Append(nil), deleteBody("", -1)...)
	frames := map[string]struct {
		frame  []byte
		closes bool
	}{
		"empty":                   {nil, true},
		"half a header":           {ints(1), true},
		"negative string":         {header(jute.OpGetData, ints(-7)...), false},
		"string beyond the frame": {header(jute.OpGetData, ints(1<<30)...), false},
		"negative vector":         {header(jute.OpSetWatches, append(make([]byte, 8), ints(-5)...)...), false},
		"huge vector":             {header(jute.OpSetWatches, append(make([]byte, 8), ints(1<<30)...)...), false},
		"huge acl":                {header(jute.OpCreate, append(createBody("/h", nil, 0)[:10], ints(1<<28)...)...), false},
		"a million empty paths":   {many(jute.OpSetWatches, append(make([]byte, 8), ints(0, 0, 200000)...), 200000, ints(0)), false},
		"deep multi":              {many(jute.OpMulti, nil, 50000, check), false},
		"multi without end":       {many(jute.OpMulti, nil, 100, check), false},
		"multi of multis":         {header(jute.OpMulti, multiOf(jute.OpMulti)...), false},
		"multi of close":          {header(jute.OpMulti, multiOf(jute.OpCloseSession)...), false},
		"auth that is none":       {header(jute.OpAuth, ints(0, 1<<20)...), true},
		"sasl that is none":       {header(jute.OpSASL, ints(1<<20)...), true},
		"a long path":             {header(jute.OpGetData, watchBody(string(bytes.Repeat([]byte("/a"), 400000)), true)...), false},
	}
	for name, f := range frames {
		t.Run(name, func(t *testing.T) {
			c := b.connect(t, 5000)
			sent := append(binary.BigEndian.AppendUint32(nil, uint32(len(f.frame))), f.frame...)
			allocated := func() uint64 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.TotalAlloc
			}
			before := allocated()
			began := time.Now()
			if _, err := c.conn.Write(sent); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if took := allocated() - before; took > uint64(6*len(sent)+64<<10) {
					t.Errorf("a frame of %d bytes allocated %d in all, %.1f times its size", len(sent), took, float64(took)/float64(len(sent)))
				}
			}()
			if f.closes {
				c.closed()
			} else {
				c.reply()
				c.must(8, jute.OpExists, watchBody("/", false))
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	// semantics 31: a frame beyond the maximum ends its connection.
	for name, length := range map[string]uint32{"negative": 0xfffffffe, "most negative": 1 << 31, "above the maximum": 0xfffff + 1, "largest": 1<<31 - 1} {
		t.Run("length "+name, func(t *testing.T) {
			c := b.connect(t, 5000)
			_, _ = c.conn.Write(binary.BigEndian.AppendUint32(nil, length))
			c.closed()
			fresh := b.dial(t) // and before a handshake
			_, _ = fresh.conn.Write(binary.BigEndian.AppendUint32(nil, length))
			fresh.closed()
		})
	}
}

func multiOf(op jute.OpCode) []byte {
	h := jute.MultiHeader{Type: op, Err: -1}
	return jute.AppendMultiEnd(h.Append(nil))
}

// TestLengthAloneTakesNoMemory opens connections that announce the longest frame and send a little of it.
func TestLengthAloneTakesNoMemory(t *testing.T) {
	b := start(t, nil)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range 50 {
		c := b.connect(t, 5000)
		_, _ = c.conn.Write(append(binary.BigEndian.AppendUint32(nil, 0xfffff), make([]byte, 1000)...))
	}
	eventually(t, func() bool { return b.Stats().Received >= 50 })
	if after := heap(); after > before+50*100<<10 {
		t.Fatalf("50 announced frames took %d KiB", (after-before)>>10)
	}
}

// TestNeverReading lets a client with watches and large reads not read its socket: it must be paused or cut off, and cost
// no more than its outbox.
func TestNeverReading(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.OutboxBytesMax = 2 << 20 })
	writer := b.connect(t, 20000)
	writer.must(1, jute.OpCreate, createBody("/big", make([]byte, 1_000_000), 0))
	writer.must(2, jute.OpCreate, createBody("/dir", nil, 0))

	t.Run("reads are paused", func(t *testing.T) {
		c := b.connect(t, 20000)
		_ = c.conn.(*net.TCPConn).SetReadBuffer(256 << 10)
		for i := range int32(60) {
			c.send(i, jute.OpGetData, watchBody("/big", false))
		}
		eventually(t, func() bool { return b.outboxes.Load() > 500_000 })
		for range 20 { // as long as it takes it never has more than its share
			if n := b.outboxes.Load(); n > 3<<20 {
				t.Fatalf("%d bytes wait", n)
			}
			runtime.Gosched()
		}
		for i := range int32(60) { // and it is all there once it reads
			if p := c.reply(); p.Xid != i || p.Err != jute.OK {
				t.Fatalf("%+v", p.ReplyHeader)
			}
		}
		c.must(61, jute.OpCloseSession, nil)
	})
	t.Run("events cut off", func(t *testing.T) {
		c := b.connect(t, 20000)
		_ = c.conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		long := "/dir/" + string(bytes.Repeat([]byte("x"), 200_000))
		c.must(1, jute.OpAddWatch, typeBody("/", jute.AddWatchPersistentRecursive))
		holds := func() bool { return b.e.Holder(c.session) != nil }
		for i := int32(10); holds() && i < 500; i += 2 {
			writer.must(i, jute.OpCreate, createBody(long, nil, 0))
			writer.must(i+1, jute.OpDelete, deleteBody(long, -1))
		}
		eventually(t, func() bool { return !holds() })
	})
}

// TestReplyBeyondTheOutbox asks for more in one answer than a connection may have waiting.
func TestReplyBeyondTheOutbox(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.OutboxBytesMax = 2 << 20 })
	c := b.connect(t, 5000)
	c.must(1, jute.OpCreate, createBody("/big", make([]byte, 1_000_000), 0))
	var ops []jute.Op
	for range 1000 {
		ops = append(ops, jute.Op{Type: jute.OpGetData, Path: "/big"})
	}
	c.send(2, jute.OpMultiRead, jute.AppendMulti(nil, ops))
	c.closed()
}

func TestConnectionLimits(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.ConnectionsPerAddressMax = 2 })
	first, second := b.connect(t, 5000), b.connect(t, 5000)
	third := b.dial(t)
	if n, _ := io.Copy(io.Discard, third.conn); n != 0 {
		t.Fatalf("the third connection was sent %d bytes", n)
	}
	second.must(1, jute.OpCloseSession, nil)
	second.closed()
	second.conn.Close()
	eventually(t, func() bool { return b.Stats().Connections == 1 })
	b.connect(t, 5000)
	first.must(1, jute.OpExists, watchBody("/", false))
}

// FuzzConnection feeds bytes to a connection through a pipe: it must end by itself, and nothing may panic.
func FuzzConnection(f *testing.F) {
	frame := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	connect := jute.ConnectRequest{TimeoutMs: 5000, Passwd: make([]byte, 16), HasReadOnly: true}
	opening := frame(connect.Append(nil))
	request := func(xid int32, op jute.OpCode, body []byte) []byte {
		h := jute.RequestHeader{Xid: xid, Op: op}
		return frame(append(h.Append(nil), body...))
	}
	f.Add([]byte("srvr\n"))
	f.Add([]byte("stmk\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add(opening)
	for _, body := range [][]byte{
		request(1, jute.OpCreate, createBody("/f", []byte("d"), jute.EphemeralSequential)),
		request(2, jute.OpGetData, watchBody("/f", true)),
		request(3, jute.OpSetData, setBody("/f", nil, -1)),
		request(4, jute.OpMulti, jute.AppendMulti(nil, []jute.Op{{Type: jute.OpCheck, Path: "/f"}, {Type: jute.OpDelete, Path: "/f"}})),
		request(5, jute.OpMultiRead, jute.AppendMulti(nil, []jute.Op{{Type: jute.OpGetData, Path: "/f"}})),
		request(-8, jute.OpSetWatches2, new(jute.SetWatches2Request).Append(nil)),
		request(-4, jute.OpAuth, (&jute.AuthPacket{Scheme: "digest", Auth: []byte("a:b")}).Append(nil)),
		request(6, jute.OpAddWatch, typeBody("/", 1)),
		request(7, jute.OpRemoveWatches, typeBody("/", 3)),
		request(8, jute.OpSync, pathBody("/")),
		request(9, jute.OpGetACL, pathBody("/")),
		request(10, jute.OpCloseSession, nil),
	} {
		f.Add(append(bytes.Clone(opening), body...))
	}
	b := start(f, func(c *Config) { c.Limits.ConnectionsPerAddressMax = 0 })
	f.Fuzz(func(t *testing.T, data []byte) {
		near, far := net.Pipe()
		if err := b.ServeConn(far, netip.MustParseAddrPort("10.0.0.1:1")); err != nil {
			t.Skip(err)
		}
		go io.Copy(io.Discard, near) //nolint:errcheck // ends with the pipe
		_ = near.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = near.Write(data)
		_ = near.Close()
	})
}

// TestTreeFull fills the tree's budget: growth is refused with an answer, in order, and what does not grow goes on.
func TestTreeFull(t *testing.T) {
	b := start(t, func(c *Config) { c.Limits.TreeBytesMax = 1 << 20 })
	c := b.connect(t, 5000)
	c.must(1, jute.OpCreate, createBody("/small", nil, 0))
	c.send(2, jute.OpCreate, createBody("/large", make([]byte, 900_000), 0))
	c.send(3, jute.OpCreate, createBody("/larger", make([]byte, 900_000), 0))
	c.send(4, jute.OpGetData, watchBody("/small", false))
	c.send(5, jute.OpDelete, deleteBody("/large", -1))
	for i, want := range []jute.Code{jute.OK, jute.QuotaExceeded, jute.OK, jute.OK} {
		if p := c.reply(); p.Xid != int32(2+i) || p.Err != want {
			t.Errorf("%+v, want %d answered with %v", p.ReplyHeader, 2+i, want)
		}
	}
	c.must(6, jute.OpCreate, createBody("/larger", make([]byte, 900_000), 0))
}

// TestEnsembleEnds closes the ensemble under a connection with requests under way.
func TestEnsembleEnds(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	for i := range int32(50) {
		c.send(i, jute.OpCreate, createBody("/n", nil, jute.PersistentSequential))
		c.send(100+i, jute.OpExists, watchBody("/", false))
	}
	if err := b.e.Close(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := c.next(); err != nil {
			break
		}
	}
	fresh := b.dial(t)
	q := jute.ConnectRequest{TimeoutMs: 5000, Passwd: make([]byte, 16)}
	fresh.write(q.Append(nil))
	fresh.closed()
	if got := b.word(t, "isro"); got != "null" {
		t.Errorf("%q", got)
	}
}

// A multiRead of small parts asks the long ACLs of their node once: it holds the ensemble's lock.
func TestMultiReadOfLongACL(t *testing.T) {
	b := start(t, nil)
	c := b.connect(t, 5000)
	q := jute.CreateRequest{Path: "/long", ACL: make([]jute.ACL, 40000)}
	for i := range q.ACL {
		q.ACL[i] = jute.ACL{Perms: jute.PermRead, ID: jute.ID{Scheme: jute.SchemeIP, ID: fmt.Sprintf("9.%d.%d.1", i>>8, i&0xff)}}
	}
	c.must(1, jute.OpCreate, q.Append(nil))
	ops := make([]jute.Op, 500)
	for i := range ops {
		ops[i] = jute.Op{Type: jute.OpGetData, Path: "/long"}
	}
	began := time.Now()
	p := c.must(2, jute.OpMultiRead, jute.AppendMulti(nil, ops))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("500 reads took %v", took)
	}
	results := jute.ReadMultiResponse(jute.NewReader(p.body), len(ops))
	if len(results) != len(ops) || results[0].Err != jute.NoAuth || results[499].Err != jute.NoAuth {
		t.Errorf("%d results", len(results))
	}
}
