package link

import (
	"context"
	"io"
	"net"
	"time"
)

// Times of connections.
const (
	// One connect does not wait for the kernel to try again, which it does after a second: another attempt is quicker. The
	// first attempts are short, as a link that comes and goes may be there for a tenth of a second; the later ones suit a
	// box or a link that is slow.
	hastyAttempts  = 8
	hastyConnect   = 125 * time.Millisecond
	hastyDial      = 2 * hastyConnect // with the hello and its answer
	connectTimeout = 600 * time.Millisecond
	dialTimeout    = 1500 * time.Millisecond

	helloTimeout   = 5 * time.Second
	idleMax        = 5 * time.Second // nothing came in, not even a probe
	redialMin      = 20 * time.Millisecond
	redialMax      = 250 * time.Millisecond
	streamStallMax = 10 * time.Second
	incomingMax    = 256 // connections that came in
)

// probeInterval is the time between two probes of a lane. The urgent one is probed so often that a cut which nobody is told
// of is found in the time of an election, whichever way it cuts.
var probeInterval = [kinds]time.Duration{kindBulk: 500 * time.Millisecond, kindUrgent: 125 * time.Millisecond}

// Probes without an answer: so many cast doubt on a connection, and so many end it. They are counted, and not the time: a
// process that was stopped itself has missed nothing.
const (
	doubtfulProbes = 2
	silentProbes   = 4
)

// adoptPause is how long a spare connection waits for a last answer on the one it is to replace: another box that was stopped
// for a moment greets the one and answers the other at the same time.
const adoptPause = 20 * time.Millisecond

// dial opens a connection and introduces this box. The attempt is the first, second and so on of a row.
func (l *Link) dial(ctx context.Context, id laneID, address string, attempt int) (net.Conn, error) {
	connectMax, dialMax := connectTimeout, dialTimeout
	if attempt <= hastyAttempts {
		connectMax, dialMax = hastyConnect, hastyDial
	}
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	connecting, connected := context.WithTimeout(ctx, connectMax)
	defer connected()
	c, err := l.deps.Dial(connecting, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // Close of the link does not wait for the peer
	defer stop()
	_ = c.SetDeadline(time.Now().Add(dialMax))
	h := hello{protocol: id.protocol, kind: id.kind, from: l.cfg.Box, to: id.to, process: l.process, cluster: l.cfg.Cluster}
	var answer [1]byte
	if _, err = c.Write(h.append(nil)); err == nil {
		_, err = io.ReadFull(c, answer[:])
	}
	if err == nil && verdict(answer[0]) != verdictOK {
		err = verdict(answer[0])
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// dialPatiently is dial for what is opened once and is in no haste.
func (l *Link) dialPatiently(id laneID, address string) (net.Conn, error) {
	return l.dial(l.ctx, id, address, hastyAttempts+1)
}

// reach dials until the lane is connected, and tells of what is lost between the attempts. It returns nil when the lane is closed.
func (w *lane) reach() net.Conn {
	wait, said := redialMin, ""
	for attempt := 1; w.ctx.Err() == nil; attempt++ {
		began := time.Now()
		c, err := w.l.dial(w.ctx, w.id, w.address, attempt)
		if err == nil {
			return c
		}
		if text := err.Error(); text != said && w.ctx.Err() == nil {
			said = text
			w.l.deps.Observer.Log.Info("no connection to another box", "box", w.id.to, "address", w.address, "error", err)
		}
		w.pause(wait - time.Since(began)) // one that took its time need not be waited for
		wait = min(2*wait, redialMax)
	}
	return nil
}

// pause waits before the next dial.
func (w *lane) pause(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		_, lost := w.take()
		w.tellLost(lost)
		select {
		case <-timer.C:
			return
		case <-w.ctx.Done():
			return
		case <-w.wake:
		}
	}
}

// spare is a connection that is dialled while the lane's own is not answered. The zero spare is none.
type spare struct {
	connected chan net.Conn // nil when there is none
	cancel    context.CancelFunc
}

func (s *spare) start(w *lane) {
	ctx, cancel := context.WithCancel(w.ctx)
	connected := make(chan net.Conn)
	s.connected, s.cancel = connected, cancel
	w.l.running.Add(1)
	go func() {
		defer w.l.running.Done()
		defer cancel()
		for attempt := 1; ctx.Err() == nil; attempt++ {
			again := time.After(redialMin)
			c, err := w.l.dial(ctx, w.id, w.address, attempt)
			if err != nil {
				<-again
				continue
			}
			select {
			case connected <- c:
			case <-ctx.Done():
				_ = c.Close() // nothing was said on it: to the other box it was none of the lane
			}
			return
		}
	}()
}

func (s *spare) stop() {
	if s.cancel != nil {
		s.cancel()
	}
	s.connected, s.cancel = nil, nil
}

// doubt has the other lanes to a box look whether they are answered.
func (l *Link) doubt(of *lane) {
	for _, w := range l.lanesOf(of.id.to, of.id.protocol) {
		if w != of {
			select {
			case w.doubted <- struct{}{}:
			default:
			}
		}
	}
}

// abandon ends the connections of the other lanes that have not looked since they were doubted: they wait in a write for room
// that does not come.
func (l *Link) abandon(of *lane) {
	for _, w := range l.lanesOf(of.id.to, of.id.protocol) {
		if w != of && len(w.doubted) > 0 {
			w.abort()
		}
	}
}

// abort ends all of a protocol's connections to a box that one of them has found silent: the others would wait for TCP to
// try again, which it does ever more rarely.
func (l *Link) abort(to uint64, p Protocol) {
	for _, w := range l.lanesOf(to, p) {
		w.abort()
	}
}

func (l *Link) lanesOf(to uint64, p Protocol) (lanes []*lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, w := range l.lanes {
		if id.to == to && id.protocol == p {
			lanes = append(lanes, w)
		}
	}
	return lanes
}
