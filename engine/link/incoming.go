package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// incoming is a connection that another box has opened.
type incoming struct {
	conn net.Conn
	turn uint64        // in which it came
	done chan struct{} // closed when its reader has ended

	// Protected by Link.mu, and empty until something is said on it: until then it is none of a lane's.
	id       laneID // its to is the box that it comes from
	process  uint64 // of that box
	replaced bool   // the same process has opened another, and lives
}

func (l *Link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			if l.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(redialMin) // out of descriptors, most likely: others will be free again
			continue
		}
		in := &incoming{conn: c, done: make(chan struct{})}
		if !l.admit(in) {
			_ = c.Close()
			continue
		}
		l.running.Add(1)
		go func() {
			defer l.running.Done()
			defer l.forget(in)
			l.serve(in)
		}()
	}
}

// admit counts a connection, unless there are too many.
func (l *Link) admit(in *incoming) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.incoming) >= incomingMax {
		return false
	}
	l.turns++
	in.turn = l.turns
	l.incoming[in.conn] = in
	return true
}

func (l *Link) forget(in *incoming) {
	_ = in.conn.Close()
	l.mu.Lock()
	delete(l.incoming, in.conn)
	l.mu.Unlock()
	close(in.done)
}

// serve reads one connection to its end.
func (l *Link) serve(in *incoming) {
	c := in.conn
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	h, err := readHello(c)
	v := l.judge(h, err)
	if _, werr := c.Write([]byte{byte(v)}); err != nil || werr != nil || v != verdictOK {
		if v != verdictOK && !errors.Is(err, io.EOF) && l.worthSaying(h.from, v) {
			l.deps.Observer.Log.Warn("connection of another box refused", "from", c.RemoteAddr(), "box", h.from, "to", h.to, "reason", errors.Join(err, v))
		}
		return
	}
	_ = c.SetDeadline(time.Time{})
	switch h.kind {
	case kindStream:
		l.serveStream(c, h)
		return
	case kindAsk:
		l.serveQuestion(c, h)
		return
	case kindPipe:
		l.servePipe(in, h)
		return
	}
	handler := l.handlers[h.protocol]
	err = l.serveMessages(in, h, handler)
	if !errors.Is(err, io.EOF) && l.ctx.Err() == nil {
		l.deps.Observer.Log.Debug("connection of another box ended", "box", h.from, "error", err)
	}
	if h.kind == kindUrgent && l.ends(in) {
		handler.Gone(h.from)
	}
}

const (
	refusalPause = 10 * time.Second // between two words about the same box that is refused for the same reason
	refusalsMax  = 256              // of which are remembered
)

type refusal struct {
	from uint64
	why  verdict
}

// worthSaying says whether a refusal is to be logged: a box that is refused tries again and again.
func (l *Link) worthSaying(from uint64, why verdict) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if said, ok := l.refusals[refusal{from, why}]; l.closed || ok && now.Sub(said) < refusalPause {
		return false
	}
	if len(l.refusals) >= refusalsMax {
		clear(l.refusals)
	}
	l.refusals[refusal{from, why}] = now
	return true
}

// ends says whether a connection's end is the end of its lane: something was said on it, and it was not replaced.
func (l *Link) ends(in *incoming) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return in.id.to != 0 && !in.replaced
}

// judge says whether this box is whom the other one wants.
func (l *Link) judge(h hello, err error) verdict {
	var v verdict
	if errors.As(err, &v) {
		return v
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		return verdictVersion
	case h.to != l.cfg.Box || h.from == l.cfg.Box:
		return verdictBox
	case h.cluster != l.cfg.Cluster:
		return verdictCluster
	case h.protocol >= protocols || l.handlers[h.protocol] == nil:
		return verdictProtocol
	case h.kind != kindAsk && l.peers[h.from] == "":
		return verdictUnknown
	}
	return verdictOK
}

// supersede ends an older connection of the same lane and waits for its reader: what a process sent before it died, or gave
// a connection up, must not be taken after what comes on the next. It returns false when the connection is the older one
// itself, or the box is no peer any more.
func (l *Link) supersede(in *incoming, h hello) bool {
	var older []*incoming
	l.mu.Lock()
	id := laneID{h.from, h.protocol, h.kind}
	if l.peers[h.from] == "" || l.spoken[id] > in.turn {
		l.mu.Unlock()
		return false
	}
	l.spoken[id] = in.turn
	in.id, in.process = id, h.process
	for _, other := range l.incoming {
		if other.turn < in.turn && other.id == in.id {
			other.replaced = other.process == in.process
			older = append(older, other)
		}
	}
	l.mu.Unlock()
	for _, other := range older {
		_ = other.conn.Close()
		<-other.done
	}
	return true
}

var errSuperseded = errors.New("a newer connection has taken its place, or the box is no peer any more")

func (l *Link) serveMessages(in *incoming, h hello, handler Handler) error {
	c := in.conn
	r := bufio.NewReaderSize(c, 64<<10)
	for first := true; ; first = false {
		_ = c.SetReadDeadline(time.Now().Add(idleMax))
		b, err := readMessage(r, l.cfg.MessageBytesMax)
		if err != nil {
			return err
		}
		if first && !l.supersede(in, h) {
			return errSuperseded
		}
		if b == nil {
			_ = c.SetWriteDeadline(time.Now().Add(idleMax))
			if _, err := c.Write([]byte{answerProbe}); err != nil {
				return err
			}
			continue
		}
		handler.Message(h.from, b)
	}
}

// readMessage reads a message, or nil for a probe. Its memory grows as the bytes come, not as the length claims.
func readMessage(r io.Reader, bytesMax int) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 {
		return nil, nil
	}
	if uint64(n) > uint64(bytesMax) {
		return nil, fmt.Errorf("a message of %d bytes, at most %d", n, bytesMax)
	}
	const step = 256 << 10
	b := make([]byte, 0, min(int(n), step))
	for len(b) < int(n) {
		at := len(b)
		b = append(b, make([]byte, min(int(n)-at, step))...)
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}
