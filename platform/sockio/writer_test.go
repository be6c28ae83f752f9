package sockio

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"cairn/platform/vfs"
)

// pattern is content in which every position is recognisable.
func pattern(n int) []byte {
	b := make([]byte, n)
	src := mrand.NewChaCha8([32]byte{1})
	_, _ = src.Read(b)
	return b
}

func fill(t testing.TB, fsys vfs.FS, name string, content []byte) vfs.File {
	t.Helper()
	f, err := fsys.Open(name, vfs.Create)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func osFile(t testing.TB, content []byte) vfs.File {
	return fill(t, vfs.OS(), filepath.Join(t.TempDir(), "log"), content)
}

func memFile(t testing.TB, content []byte) vfs.File { return fill(t, vfs.NewMem(), "log", content) }

// tcpPair is a connection over loopback: the sending side, the reading side.
func tcpPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

func pipePair(t testing.TB) (server, client net.Conn) {
	server, client = net.Pipe()
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

func tlsPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"box"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	s, c := tcpPair(t)
	return tls.Server(s, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}),
		tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "box"})
}

var pairs = map[string]func(testing.TB) (server, client net.Conn){"tcp": tcpPair, "pipe": pipePair, "tls": tlsPair}

// expected is what the parts say.
func expected(t interface{ Fatal(...any) }, parts []Part) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p.Bytes...)
		if p.File != nil {
			b := make([]byte, p.Length)
			if _, err := p.File.ReadAt(b, p.Position); err != nil && p.Length > 0 {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
	}
	return all
}

// receive reads n bytes in the background.
func receive(client net.Conn, n int) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		b := make([]byte, n)
		m, _ := io.ReadFull(client, b)
		got <- b[:m]
	}()
	return got
}

func TestSend(t *testing.T) {
	content := pattern(9 << 20)
	for connection, pair := range pairs {
		for kind, file := range map[string]vfs.File{"os": osFile(t, content), "mem": memFile(t, content)} {
			rangeOf := func(position, length int64) Part { return Part{File: file, Position: position, Length: length} }
			header := Part{Bytes: []byte("a header")}
			var many []Part
			for i := range int64(200) {
				many = append(many, header, rangeOf(i*777, 100+i*300))
			}
			for name, parts := range map[string][]Part{
				"nothing":            nil,
				"empty parts":        {{}, rangeOf(5, 0), {}},
				"bytes":              {header},
				"several bytes":      {header, {}, header, {Bytes: content[:300]}, header},
				"large bytes":        {header, {Bytes: content[:3<<20]}, header},
				"small range":        {header, rangeOf(3, 1000)},
				"just copied":        {header, rangeOf(3, SendfileMin-1)},
				"just sent":          {header, rangeOf(3, SendfileMin)},
				"large range":        {header, rangeOf(12345, 8<<20)},
				"range alone":        {rangeOf(1, 1<<20)},
				"range at the end":   {header, rangeOf(8<<20, 1<<20), header},
				"ranges of one file": {header, rangeOf(5<<20, 1<<20), header, rangeOf(0, 1<<20), rangeOf(100, 50<<10)},
				"many parts":         many,
			} {
				t.Run(fmt.Sprint(connection, "/", kind, "/", name), func(t *testing.T) {
					server, client := pair(t)
					want := expected(t, parts)
					got := receive(client, len(want))
					counters := &Counters{}
					w := NewWriter(server, Config{StallTimeout: 10 * time.Second, Counters: counters})
					n, err := w.Send(parts)
					if err != nil || n != int64(len(want)) {
						t.Fatalf("sent %d of %d: %v", n, len(want), err)
					}
					if !bytes.Equal(<-got, want) {
						t.Fatal("other bytes arrived")
					}
					checkCounters(t, counters, parts, connection == "tcp" && kind == "os")
				})
			}
		}
	}
}

func checkCounters(t *testing.T, c *Counters, parts []Part, zeroCopy bool) {
	t.Helper()
	var memory, sendfile, copied uint64
	for _, p := range parts {
		memory += uint64(len(p.Bytes))
		if zeroCopy && p.Length >= SendfileMin {
			sendfile += uint64(p.Length)
		} else {
			copied += uint64(p.Length)
		}
	}
	if c.MemoryBytes() != memory || c.SendfileBytes() != sendfile || c.CopiedBytes() != copied || c.Sends() != 1 {
		t.Errorf("counted memory %d sendfile %d copied %d, want %d %d %d",
			c.MemoryBytes(), c.SendfileBytes(), c.CopiedBytes(), memory, sendfile, copied)
	}
}

// Property: any parts arrive as they are, over any connection.
func TestSendAnyParts(t *testing.T) {
	const size = 300 << 10
	content := pattern(size)
	files := []vfs.File{osFile(t, content), memFile(t, content)}
	for connection, pair := range pairs {
		t.Run(connection, func(t *testing.T) {
			server, client := pair(t)
			w := NewWriter(server, Config{StallTimeout: 10 * time.Second})
			rapid.Check(t, func(t *rapid.T) {
				parts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Part {
					position := rapid.Int64Range(0, size).Draw(t, "position")
					length := rapid.Int64Range(0, size-position).Draw(t, "length")
					if rapid.Bool().Draw(t, "small") {
						length = min(length, 3000)
					}
					if i := rapid.IntRange(-1, 1).Draw(t, "file"); i >= 0 {
						return Part{File: files[i], Position: position, Length: length}
					}
					return Part{Bytes: content[position:][:length]}
				}), 0, 20).Draw(t, "parts")
				want := expected(t, parts)
				got := receive(client, len(want))
				if _, err := w.Send(parts); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(<-got, want) {
					t.Fatal("other bytes arrived")
				}
			})
		})
	}
}

// Responses of several goroutines do not mix.
func TestSendIsOneUnit(t *testing.T) {
	server, client := tcpPair(t)
	file := osFile(t, bytes.Repeat([]byte{0}, 1<<20))
	w := NewWriter(server, Config{StallTimeout: 10 * time.Second})
	const senders, length = 8, 200 << 10
	got := receive(client, senders*(2+length))
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			if _, err := w.Send([]Part{{Bytes: []byte{1}}, {File: file, Length: length}, {Bytes: []byte{2}}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	one := append(append([]byte{1}, make([]byte, length)...), 2)
	if !bytes.Equal(<-got, bytes.Repeat(one, senders)) {
		t.Fatal("responses are mixed")
	}
}

func TestTruncatedFile(t *testing.T) {
	content := pattern(1 << 20)
	for connection, pair := range pairs {
		for kind, file := range map[string]vfs.File{"os": osFile(t, content), "mem": memFile(t, content)} {
			for _, length := range []int64{1000, 1 << 20} {
				t.Run(fmt.Sprint(connection, "/", kind, "/", length), func(t *testing.T) {
					server, client := pair(t)
					go func() { _, _ = io.Copy(io.Discard, client) }()
					w := NewWriter(server, Config{StallTimeout: 10 * time.Second})
					_, err := w.Send([]Part{{Bytes: []byte("header")}, {File: file, Position: 1<<20 - 100, Length: length}})
					if !errors.Is(err, ErrTruncated) {
						t.Fatalf("error %v", err)
					}
					if _, again := w.Send([]Part{{Bytes: []byte("x")}}); again != err {
						t.Fatalf("after a broken response: %v", again)
					}
				})
			}
		}
	}
}

// A file that is cut while its bytes are under way ends the response with an error.
func TestFileTruncatedUnderWay(t *testing.T) {
	const size = 64 << 20
	server, client := tcpPair(t)
	f := osFile(t, nil)
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	w := NewWriter(server, Config{StallTimeout: 10 * time.Second})
	result := make(chan error, 1)
	go func() {
		_, err := w.Send([]Part{{File: f, Length: size}})
		result <- err
	}()
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	// The socket's buffers are far smaller than the file, and nobody reads on: the sender waits in the middle.
	if err := f.Truncate(1 << 10); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, client) }()
	if err := <-result; !errors.Is(err, ErrTruncated) {
		t.Fatalf("error %v", err)
	}
}

func TestStalledReader(t *testing.T) {
	content := pattern(24 << 20)
	for connection, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){"tcp": tcpPair, "pipe": pipePair} {
		for kind, part := range map[string]Part{
			"sendfile": {File: osFile(t, content), Length: 24 << 20},
			"copy":     {File: memFile(t, content), Length: 24 << 20},
			"bytes":    {Bytes: content},
		} {
			t.Run(connection+"/"+kind, func(t *testing.T) {
				server, _ := pair(t)
				counters := &Counters{}
				w := NewWriter(server, Config{StallTimeout: 50 * time.Millisecond, Counters: counters})
				_, err := w.Send([]Part{{Bytes: []byte("header")}, part})
				if !errors.Is(err, ErrStalled) {
					t.Fatalf("error %v", err)
				}
				if counters.Stalls() != 1 {
					t.Errorf("%d stalls counted", counters.Stalls())
				}
			})
		}
	}
}

// deadlines is a clock that counts how often a deadline was set.
type deadlines struct {
	mu sync.Mutex
	at []time.Time
}

func (d *deadlines) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = append(d.at, time.Now())
	return d.at[len(d.at)-1]
}

// A reader that takes a little now and then is slow and not stalled, though the whole takes longer than the timeout.
func TestSlowReaderIsNotStalled(t *testing.T) {
	const size, timeout = 24 << 20, time.Second
	content := pattern(size)
	for kind, part := range map[string]Part{
		"sendfile": {File: osFile(t, content), Length: size},
		"copy":     {File: memFile(t, content), Length: size},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server, client := tcpPair(t)
			if err := client.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			var d deadlines
			w := NewWriter(server, Config{StallTimeout: timeout, Now: d.now})
			result := make(chan error, 1)
			begin := time.Now()
			go func() {
				_, err := w.Send([]Part{{Bytes: []byte("header")}, part})
				result <- err
			}()
			h := make([]byte, 6)
			if _, err := io.ReadFull(client, h); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, size)
			tick := time.NewTicker(timeout / 8)
			defer tick.Stop()
			for at := 0; at < size; {
				// Slow at first, until the timeout has passed twice; then as fast as can be.
				if time.Since(begin) < 2*timeout {
					<-tick.C
				}
				n, err := io.ReadFull(client, got[at:min(size, at+512<<10)])
				if err != nil {
					t.Fatal(err)
				}
				at += n
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, content) {
				t.Fatal("other bytes arrived")
			}
			if len(d.at) < 2 {
				t.Errorf("the deadline was set %d times: the reader was not slow", len(d.at))
			}
		})
	}
}

// deadlineConn is a connection that says which write deadlines are put on it.
type deadlineConn struct {
	net.Conn
	set chan time.Time
}

func (c deadlineConn) SetWriteDeadline(at time.Time) error {
	c.set <- at
	return c.Conn.SetWriteDeadline(at)
}

// A deadline of one response must not fail a later one.
func TestDeadlineIsClearedAfterwards(t *testing.T) {
	const size = 16 << 20
	server, client := tcpPair(t)
	w := NewWriter(server, Config{StallTimeout: time.Minute})
	set := make(chan time.Time, 1<<16) // more than the times that the socket can be full
	w.conn = deadlineConn{Conn: server, set: set}
	file := osFile(t, pattern(size))
	for range 2 {
		result := make(chan error, 1)
		go func() {
			_, err := w.Send([]Part{{File: file, Length: size}})
			result <- err
		}()
		last := <-set // nobody reads yet: the socket is full
		if last.IsZero() {
			t.Fatal("a full socket has no deadline")
		}
		got := receive(client, size)
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		<-got
		for len(set) > 0 {
			last = <-set
		}
		if !last.IsZero() {
			t.Fatalf("the deadline %v is left on the connection", last)
		}
	}
}

func TestCloseEndsSend(t *testing.T) {
	server, client := tcpPair(t)
	w := NewWriter(server, Config{})
	result := make(chan error, 1)
	file := osFile(t, pattern(64<<20))
	go func() {
		_, err := w.Send([]Part{{File: file, Length: 24 << 20}})
		result <- err
	}()
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("error %v", err)
	}
}

func TestPeerGone(t *testing.T) {
	server, client := tcpPair(t)
	w := NewWriter(server, Config{StallTimeout: 10 * time.Second})
	_ = client.Close()
	file := osFile(t, pattern(1<<20))
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		_, err = w.Send([]Part{{Bytes: []byte("header")}, {File: file, Length: 1 << 20}})
	}
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("error %v", err)
	}
}

// unsendable has a descriptor that sendfile refuses, as some file systems' are.
type unsendable struct {
	vfs.File
	fd int
}

func (u unsendable) Fd() uintptr { return uintptr(u.fd) }

func TestFallbackWhereSendfileCannot(t *testing.T) {
	fd, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	content := pattern(300 << 10)
	file := unsendable{File: memFile(t, content), fd: fd}
	server, client := tcpPair(t)
	got := receive(client, 6+len(content))
	counters := &Counters{}
	parts := []Part{{Bytes: []byte("header")}, {File: file, Length: int64(len(content))}}
	if _, err := NewWriter(server, Config{Counters: counters}).Send(parts); err != nil {
		t.Fatal(err)
	}
	if want := expected(t, parts); !bytes.Equal(<-got, want) {
		t.Fatal("other bytes arrived")
	}
	if counters.SendfileBytes() != 0 || counters.CopiedBytes() != uint64(len(content)) {
		t.Errorf("%d sent, %d copied", counters.SendfileBytes(), counters.CopiedBytes())
	}
}

func TestBadRange(t *testing.T) {
	server, _ := tcpPair(t)
	file := osFile(t, nil)
	for _, p := range []Part{{File: file, Position: -1, Length: 1}, {File: file, Length: -1}} {
		if _, err := NewWriter(server, Config{}).Send([]Part{p}); err == nil {
			t.Errorf("%d bytes at %d were sent", p.Length, p.Position)
		}
	}
}

func TestSendAllocatesNothing(t *testing.T) {
	content := pattern(1 << 20)
	file := osFile(t, content)
	server, client := tcpPair(t)
	go func() { _, _ = io.Copy(io.Discard, client) }()
	w := NewWriter(server, Config{StallTimeout: 10 * time.Second})
	for name, parts := range map[string][]Part{
		"sendfile": {{Bytes: content[:50]}, {File: file, Length: 1 << 18}, {Bytes: content[:50]}, {File: file, Length: 1 << 18}},
		"copy":     {{Bytes: content[:50]}, {File: file, Length: 1 << 14}, {Bytes: content[:50]}, {File: file, Length: 1 << 12}},
		"bytes":    {{Bytes: content[:50]}, {Bytes: content[:5000]}, {Bytes: content[:50]}},
	} {
		allocated := testing.AllocsPerRun(100, func() {
			if _, err := w.Send(parts); err != nil {
				t.Fatal(err)
			}
		})
		// The pools may be emptied by the collector during the run.
		if allocated >= 1 {
			t.Errorf("%s: %v allocations for each Send", name, allocated)
		}
	}
}

func benchmarkSend(b *testing.B, file vfs.File, length int64, sendfileMin int64) {
	server, client := tcpPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 256<<10)
		for {
			if _, err := client.Read(buf); err != nil {
				return
			}
		}
	}()
	w := NewWriter(server, Config{StallTimeout: 10 * time.Second, SendfileMin: sendfileMin})
	parts := []Part{{Bytes: make([]byte, 60)}, {File: file, Length: length}}
	b.SetBytes(length)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Send(parts); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	_ = server.Close()
	<-done
}

// On loopback the copy wins in MB/s, since the reader shares the CPU (reference/performance.md, finding 5).
func BenchmarkSend(b *testing.B) {
	file := osFile(b, pattern(1<<20))
	for _, length := range []int64{4 << 10, 16 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("sendfile/%dKiB", length>>10), func(b *testing.B) { benchmarkSend(b, file, length, 1) })
		b.Run(fmt.Sprintf("copy/%dKiB", length>>10), func(b *testing.B) { benchmarkSend(b, file, length, 1<<40) })
	}
}

func TestRangeBeyond4GiB(t *testing.T) {
	const far = 5 << 30
	file := osFile(t, nil)
	content := pattern(100 << 10)
	if _, err := file.WriteAt(content, far); err != nil {
		t.Fatal(err)
	}
	server, client := tcpPair(t)
	got := receive(client, len(content))
	if _, err := NewWriter(server, Config{}).Send([]Part{{File: file, Position: far, Length: int64(len(content))}}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, content) {
		t.Fatal("other bytes arrived")
	}
}
