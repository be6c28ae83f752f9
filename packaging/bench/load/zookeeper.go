package load

import (
	"net"

	"cairn/packaging/bench/frames"
)

// sessionMs is the session timeout. The requests are the pings.
const sessionMs = 30000

// Getter reads one znode again and again in a ZooKeeper session of its own.
type Getter struct {
	Request *frames.ZooKeeperRequest
	Data    int  // bytes of the znode
	Echo    bool // the other end is an echo: there is no session to open
}

// Open opens the session.
func (g *Getter) Open(conn net.Conn) error {
	if g.Echo {
		return nil
	}
	return openSession(conn)
}

func openSession(conn net.Conn) error {
	if _, err := conn.Write(frames.ZooKeeperConnect(sessionMs)); err != nil {
		return err
	}
	frame, err := ReadFrame(conn, nil)
	if err != nil {
		return err
	}
	return frames.ConnectError(frame)
}

// Append appends the request.
func (g *Getter) Append(dst []byte, id uint32) []byte { return g.Request.Append(dst, id) }

// Check checks the reply's error and size.
func (g *Getter) Check(frame []byte) (int, error) { return g.Data, frames.GetDataError(frame, g.Data) }

// Walker sends requests of one kind in a ZooKeeper session of its own, each about a path of its number.
type Walker struct {
	Request *frames.ZooKeeperRequest // about a path that frames.Numbered has made
	// Number is of the request with an id; false ends the connection's requests.
	Number func(id uint32) (number uint32, more bool)
}

// Open opens the session.
func (w *Walker) Open(conn net.Conn) error { return openSession(conn) }

// Append appends the request about the next number.
func (w *Walker) Append(dst []byte, id uint32) []byte {
	number, more := w.Number(id)
	if !more {
		return dst
	}
	return w.Request.AppendNumbered(dst, id, number)
}

// Check checks the reply's error.
func (w *Walker) Check(frame []byte) (int, error) { return 0, frames.ReplyError(frame) }

// First are the numbers from 0 to count-1, once.
func First(count uint32) func(uint32) (uint32, bool) {
	return func(id uint32) (uint32, bool) { return id - 1, id <= count }
}

// Scattered are numbers below count in an order that looks random and is the same in every run; seed tells connections
// apart.
func Scattered(count, seed uint32) func(uint32) (uint32, bool) {
	return func(id uint32) (uint32, bool) {
		h := (uint64(seed)<<32 | uint64(id)) * 0x9e3779b97f4a7c15
		return uint32((h >> 32) * uint64(count) >> 32), true
	}
}

// Mixer writes one request in Every and reads the others, in a ZooKeeper session of its own. It only writes where Every is
// 1, and only reads where it is 0.
type Mixer struct {
	Read, Write *frames.ZooKeeperRequest
	Every       uint32
}

// Open opens the session.
func (m *Mixer) Open(conn net.Conn) error { return openSession(conn) }

// Append appends the request.
func (m *Mixer) Append(dst []byte, id uint32) []byte {
	if m.Every > 0 && id%m.Every == 0 {
		return m.Write.Append(dst, id)
	}
	return m.Read.Append(dst, id)
}

// Check checks the reply's error.
func (m *Mixer) Check(frame []byte) (int, error) { return 0, frames.ReplyError(frame) }
