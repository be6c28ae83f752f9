package zkserver

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"cairn/engine/ensemble/jute"
)

// BenchmarkGetData asks for 100 bytes, one request at a time and with 64 under way, and BenchmarkEcho sends what has the
// same sizes to a loop that answers without looking.
func BenchmarkGetData(b *testing.B) {
	s := start(b, nil)
	c := s.connect(b, 30000)
	c.must(1, jute.OpCreate, createBody("/bench", make([]byte, 100), 0))
	h := jute.RequestHeader{Xid: 5, Op: jute.OpGetData}
	request := append(h.Append(nil), watchBody("/bench", false)...)
	request = append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)
	c.send(5, jute.OpGetData, watchBody("/bench", false))
	answer := 4 + len(c.read())
	exchange(b, c.conn, request, answer)
}

func BenchmarkEcho(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const request, answer = 4 + 8 + 4 + 6 + 1, 4 + 16 + 4 + 100 + jute.StatSize
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in, out := make([]byte, 64*request), make([]byte, 64*answer)
		for have := 0; ; {
			n, err := c.Read(in[have:])
			if err != nil {
				return
			}
			have += n
			whole := have / request
			have -= whole * request
			if _, err := c.Write(out[:whole*answer]); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	exchange(b, c, make([]byte, request), answer)
}

func exchange(b *testing.B, c net.Conn, request []byte, answer int) {
	for _, depth := range []int{1, 64} {
		name := map[int]string{1: "one", 64: "pipelined"}[depth]
		b.Run(name, func(b *testing.B) {
			var many []byte
			for range depth {
				many = append(many, request...)
			}
			in := make([]byte, depth*answer)
			b.ReportAllocs()
			for done := 0; done < b.N; done += depth {
				if _, err := c.Write(many); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
