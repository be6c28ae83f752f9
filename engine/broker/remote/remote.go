package remote

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"cairn/engine/broker/fetcher"
)

// Config is how other brokers are asked.
type Config struct {
	// FrameBytesMax bounds an answer, in bytes.
	FrameBytesMax int
	// Timeout is how long an answer may take beyond the wait that was asked for. Default 2 s.
	Timeout time.Duration
	// Idle is how long a connection is kept on which nobody asks. Default 30 s.
	Idle time.Duration
}

// Deps is the outside of the room.
type Deps struct {
	// Open opens a connection to a broker's box; it may block for a second or two.
	Open func(broker int32) (net.Conn, error)
}

// ErrClosed answers what is asked at a stop.
var ErrClosed = errors.New("no connection to the broker: this box stops")

// errBusy: more than two questions at a time, which is a mistake of whoever asks.
var errBusy = errors.New("two questions are on their way already")

// Brokers asks. Its methods may be called from any goroutine.
type Brokers struct {
	cfg     Config
	deps    Deps
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex // protects what follows; nothing is called while it is held
	callers map[to]*caller
}

// New makes it. Nothing is connected before somebody asks.
func New(cfg Config, deps Deps) *Brokers {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 30 * time.Second
	}
	b := &Brokers{cfg: cfg, deps: deps, callers: map[to]*caller{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Close ends all connections. What is on its way is answered with an error.
func (b *Brokers) Close() {
	b.mu.Lock()
	b.cancel()
	b.mu.Unlock()
	b.running.Wait()
}

// call is one question on its way.
type call struct {
	q    fetcher.Question
	done func([]fetcher.Answer, error)
}

// Fetch implements fetcher.Leaders.
func (b *Brokers) Fetch(broker int32, q fetcher.Question, done func([]fetcher.Answer, error)) {
	if err := b.put(to{broker, q.Behind}, call{q, done}); err != nil {
		done(nil, err)
	}
}

func (b *Brokers) put(at to, q call) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	c := b.callers[at]
	if c == nil {
		c = &caller{b: b, to: at, calls: make(chan call, 2)}
		b.callers[at] = c
		b.running.Go(c.run)
	}
	select {
	case c.calls <- q:
		return nil
	default:
		return errBusy
	}
}

// to is a broker, on one of its two connections: an answer about replicas that are not in sync is large and may come from the
// leader's disk, and nobody who waits for acks=all is to wait behind it.
type to struct {
	broker int32
	behind bool
}

// caller asks one broker.
type caller struct {
	b *Brokers
	to
	calls chan call // at most two
}

// run asks what is put, and ends when nobody has asked for long.
func (c *caller) run() {
	idle := time.NewTimer(c.b.cfg.Idle)
	defer idle.Stop()
	var l *line
	defer func() { l.close() }()
	for {
		select {
		case next := <-c.calls:
			if l.broken() {
				l.close()
				l = nil
			}
			if l == nil {
				if !next.q.Whole { // nobody has told this broker what it goes on from
					next.done(nil, errSession)
					continue
				}
				var err error
				if l, err = c.dial(); err != nil {
					next.done(nil, err)
					continue
				}
			}
			l.ask(next)
			idle.Reset(c.b.cfg.Idle)
		case <-idle.C:
			if !l.waits() && c.leave() {
				return
			}
			idle.Reset(c.b.cfg.Idle)
		case <-c.b.ctx.Done():
			for len(c.calls) > 0 { // nothing is put any more
				(<-c.calls).done(nil, ErrClosed)
			}
			return
		}
	}
}

// leave forgets the caller, unless somebody has asked meanwhile.
func (c *caller) leave() bool {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if len(c.calls) > 0 {
		return false
	}
	delete(c.b.callers, c.to)
	return true
}

// dial opens a connection.
func (c *caller) dial() (*line, error) {
	conn, err := c.b.deps.Open(c.broker)
	if err != nil {
		return nil, err
	}
	l := &line{cfg: c.b.cfg, conn: conn, asked: make(chan call, 2), over: make(chan struct{}), session: newSession()}
	l.stop = context.AfterFunc(c.b.ctx, func() { _ = conn.Close() })
	c.b.running.Go(l.read)
	return l, nil
}
