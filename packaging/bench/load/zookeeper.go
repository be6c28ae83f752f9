package load

import (
	"net"

	"cairn/packaging/bench/frames"
)

// sessionMs is the session timeout of a Getter. Its requests are its pings.
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
