package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"cairn/platform/observe"
)

// Protocol names the room that a connection is for.
type Protocol uint8

// The protocols.
const (
	// Raft is the ensemble's, Broker the broker's.
	Raft Protocol = iota
	Broker
	protocols
)

// Handler is the room that takes what other boxes send.
type Handler interface {
	// Message takes one message; the bytes are the handler's. It must not block for long: what comes behind it waits.
	Message(from uint64, b []byte)
	// Stream takes something large: size bytes are to be read from r. It may block.
	Stream(from uint64, head []byte, size int64, r io.Reader) error
	// Pipe takes a connection that another box has opened for itself. It returns when it is done with it.
	Pipe(from uint64, c net.Conn)
	// Lost says that something sent to the box was lost, or may have been: something urgent, or something of the rest.
	Lost(to uint64, urgent bool)
	// Ask answers a question, from a box that need not be a peer: it may be one that wants to become one. It may block for
	// a moment; nil is no answer.
	Ask(from uint64, question []byte) []byte
	// Gone says that the box's connection for urgent messages ended, as it does at once when its process dies.
	Gone(box uint64)
}

// Config is who this box is and where the others are.
type Config struct {
	// Box is this box's number, and Cluster a name that all boxes of a cluster agree on, of at most 255 bytes; a box of
	// another cluster is refused.
	Box     uint64
	Cluster string
	// Listen is the address for other boxes.
	Listen string
	// Peers are the other boxes and their addresses, host:port.
	Peers map[uint64]string
	// MessageBytesMax bounds one message and the head of a stream, StreamBytesMax a whole stream, QueueBytesMax and
	// QueueMax what may wait on a lane.
	MessageBytesMax         int
	StreamBytesMax          int64
	QueueBytesMax, QueueMax int
}

// Deps is the outside.
type Deps struct {
	Listen   func(network, address string) (net.Listener, error)
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Observer *observe.Observer
}

// ErrClosed is returned when the link was closed, or has no such peer.
var ErrClosed = errors.New("no link to the box")

// Link is this box's end. Its methods may be called from any goroutine.
type Link struct {
	cfg      Config
	deps     Deps
	handlers [protocols]Handler
	process  uint64 // a random number: the other boxes know by it that this one was started anew
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex // protects what follows; nothing is called while it is held
	peers    map[uint64]string
	lanes    map[laneID]*lane
	incoming map[net.Conn]*incoming
	turns    uint64
	spoken   map[laneID]uint64     // the turn of the last incoming connection on which something was said, by its lane
	refusals map[refusal]time.Time // when each was said last
	started  bool
	closed   bool
}

type laneID struct {
	to       uint64
	protocol Protocol
	kind     kind
}

// New makes a link. Handlers are registered next, then it is started.
func New(cfg Config, deps Deps) (*Link, error) {
	switch {
	case cfg.Box == 0 || len(cfg.Cluster) > clusterMax:
		return nil, fmt.Errorf("link of box %d in a cluster with a name of %d bytes", cfg.Box, len(cfg.Cluster))
	case cfg.MessageBytesMax <= 0 || cfg.StreamBytesMax <= 0 || cfg.QueueMax <= 0 || cfg.QueueBytesMax < cfg.MessageBytesMax:
		return nil, fmt.Errorf("link with messages of %d bytes, streams of %d, queues of %d messages or %d bytes",
			cfg.MessageBytesMax, cfg.StreamBytesMax, cfg.QueueMax, cfg.QueueBytesMax)
	}
	if deps.Observer == nil {
		deps.Observer = observe.Discard()
	}
	l := &Link{cfg: cfg, deps: deps, peers: maps.Clone(cfg.Peers), lanes: map[laneID]*lane{}, incoming: map[net.Conn]*incoming{},
		spoken: map[laneID]uint64{}, refusals: map[refusal]time.Time{}}
	l.process = rand.Uint64()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// Handle registers the room of a protocol. It is called before Start.
func (l *Link) Handle(p Protocol, h Handler) { l.handlers[p] = h }

// Listen opens the door, which says at once when its address is in use. Nothing is accepted before Start.
func (l *Link) Listen() error {
	var err error
	l.listener, err = l.deps.Listen("tcp", l.cfg.Listen)
	return err
}

// Address is where the door is.
func (l *Link) Address() net.Addr { return l.listener.Addr() }

// Start accepts what comes in and dials the peers.
func (l *Link) Start() {
	l.running.Add(1)
	go func() {
		defer l.running.Done()
		l.accept()
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = true
	l.lanesToAll()
}

// lane is the lane of that id, begun if there is none. mu is held.
func (l *Link) lane(id laneID) *lane {
	w := l.lanes[id]
	if w == nil && !l.closed && l.peers[id.to] != "" && id.to != l.cfg.Box {
		w = newLane(l, id, l.peers[id.to])
		l.lanes[id] = w
		l.running.Add(1)
		go func() {
			defer l.running.Done()
			w.run()
		}()
	}
	return w
}

// Send hands a message over. It never blocks; the bytes belong to the link from then on. What cannot be sent is reported
// to the protocol's handler as lost, from another goroutine.
func (l *Link) Send(p Protocol, to uint64, b []byte, urgent bool) {
	k := kindBulk
	if urgent {
		k = kindUrgent
	}
	l.mu.Lock()
	w := l.lane(laneID{to, p, k})
	l.mu.Unlock()
	if w != nil {
		w.put(b)
	}
}

// Stream sends something large on a connection of its own, and returns when the other box has taken all of it, or an
// error. It blocks: the caller gives it a goroutine.
func (l *Link) Stream(p Protocol, to uint64, head []byte, size int64, r io.Reader) error {
	l.mu.Lock()
	address, closed := l.peers[to], l.closed
	l.mu.Unlock()
	if address == "" || closed {
		return fmt.Errorf("stream to box %d: %w", to, ErrClosed)
	}
	if err := l.stream(p, to, address, head, size, r); err != nil {
		return fmt.Errorf("stream %d bytes to box %d at %s: %w", size, to, address, err)
	}
	return nil
}

// Close ends all connections and returns when no handler is called any more.
func (l *Link) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for c := range l.incoming {
		_ = c.Close()
	}
	lanes := l.lanes
	l.lanes = nil
	l.mu.Unlock()
	l.cancel()
	var err error
	if l.listener != nil {
		err = l.listener.Close()
	}
	for _, w := range lanes {
		w.close()
	}
	l.running.Wait()
	return err
}
