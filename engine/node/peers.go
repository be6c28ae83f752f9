package node

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/zkserver/zoocfg"
	"cairn/engine/link"
)

// Ensemble says which boxes are one ensemble. A box without it is alone.
type Ensemble struct {
	// Box is this box's number among them; Voters and Learners are those that a fresh ensemble begins with.
	Box              uint64
	Voters, Learners []uint64
	// Listen is the address for the other boxes, Peers are theirs.
	Listen string
	Peers  map[uint64]string
	// Cluster is a name that all of them agree on.
	Cluster string
	// Servers are the lines of the configuration that a fresh ensemble begins with.
	Servers quorum.Config
	// Admit takes servers in that ask (ensemble.Config.Admit).
	Admit bool
	// Static says that the addresses in Peers stand, whatever the ensemble's configuration says: nobody changes that one.
	Static bool
}

// EnsembleFrom is what the server.N lines of a zoo.cfg say, or nil when the server is to stand alone. The election port
// is not used: raft elects over the same connections.
func EnsembleFrom(f *zoocfg.Config) *Ensemble {
	if f.Standalone() {
		return nil
	}
	e := &Ensemble{Box: uint64(f.ServerID), Peers: map[uint64]string{}, Cluster: "zoo.cfg", Static: !f.ReconfigEnabled}
	for _, s := range f.Servers {
		address := s.PeerAddress()
		if s.ID == f.ServerID && s.ClientAddress == "" {
			s.ClientAddress = f.ClientAddress
		}
		e.Servers.Servers = append(e.Servers.Servers, s)
		if s.ID == f.ServerID {
			e.Listen = address
		} else {
			e.Peers[uint64(s.ID)] = address
		}
		if s.Observer {
			e.Learners = append(e.Learners, uint64(s.ID))
		} else {
			e.Voters = append(e.Voters, uint64(s.ID))
		}
	}
	slices.Sort(e.Voters)
	slices.Sort(e.Learners)
	return e
}

// EnsembleJoined is the ensemble of the boxes at addresses host:port, of which this one, which listens on listen, is number box
// from 1 on. The first of them found it where nobody has: as many vote as are the odd number 1, 3 or 5.
func EnsembleJoined(addresses []string, box int, listen string) (*Ensemble, error) {
	e := &Ensemble{Box: uint64(box), Listen: listen, Peers: map[uint64]string{}, Cluster: "join", Admit: true}
	voters := 1
	for _, more := range []int{3, 5} {
		if len(addresses) >= more {
			voters = more
		}
	}
	for i, address := range addresses {
		host, text, err := net.SplitHostPort(address)
		port, perr := strconv.ParseUint(text, 10, 16)
		if err = errors.Join(err, perr); err != nil || host == "" || port == 0 {
			return nil, fmt.Errorf("%q is not the host:port of a box: %w", address, err)
		}
		s := quorum.Server{ID: int64(i + 1), Host: host, PeerPort: int(port), ElectionPort: int(port) + electionShift, Observer: i >= voters}
		if s.ElectionPort > math.MaxUint16 {
			s.ElectionPort = int(port) - electionShift
		}
		if slices.ContainsFunc(e.Servers.Servers, func(o quorum.Server) bool { return o.PeerAddress() == s.PeerAddress() }) {
			return nil, fmt.Errorf("%s stands there twice", address)
		}
		e.Servers.Servers = append(e.Servers.Servers, s)
		id := uint64(s.ID)
		if id != e.Box {
			e.Peers[id] = s.PeerAddress()
		}
		if s.Observer {
			e.Learners = append(e.Learners, id)
		} else {
			e.Voters = append(e.Voters, id)
		}
	}
	return e, nil
}

// electionShift makes the second port of a server's line, where ZooKeeper elects and nobody listens here.
const electionShift = 10000

// peers carries the ensemble's messages over the link. It is the ensemble's Transport and the link's Handler.
type peers struct {
	link     Link
	warned   atomic.Bool                       // that this box's own file is out of date
	ensemble atomic.Pointer[ensemble.Ensemble] // nil while it is being opened: what is lost then is sent again

	mu      sync.Mutex // protects what follows
	sending map[uint64]bool
	running sync.WaitGroup
}

// Send implements ensemble.Transport.
func (p *peers) Send(to uint64, message []byte, urgent bool) {
	p.link.Send(link.Raft, to, message, urgent)
}

// SendSnapshot implements ensemble.Transport. There is one at a time for each box.
func (p *peers) SendSnapshot(to, index uint64, message []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := !p.sending[to]
	p.sending[to] = true
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		ok := false
		if begin {
			ok = p.carry(to, index, message)
			p.mu.Lock()
			delete(p.sending, to)
			p.mu.Unlock()
		}
		if e := p.ensemble.Load(); e != nil {
			e.SnapshotSent(to, ok)
		}
	}()
}

func (p *peers) carry(to, index uint64, message []byte) bool {
	e := p.ensemble.Load()
	if e == nil {
		return false
	}
	src, err := e.OpenSnapshot(index)
	if err != nil {
		return false // a newer one has taken its place: raft asks again
	}
	defer func() { _ = src.Close() }() // it was only read
	return p.link.Stream(link.Raft, to, message, src.Size, src) == nil
}

// ask implements ensemble.Deps.Ask. There is one question at a time for each box.
func (p *peers) ask(to uint64, question []byte, done func([]byte, error)) {
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		done(p.link.Ask(link.Raft, to, question))
	}()
}

// Ask implements link.Handler.
func (p *peers) Ask(from uint64, question []byte) []byte {
	e := p.ensemble.Load()
	if e == nil {
		return nil
	}
	reply := make(chan []byte, 1)
	e.Answer(from, question, func(b []byte) { reply <- b })
	return <-reply
}

// follow tells the link where the servers are. It is called by the ensemble's owner and does not block.
func (n *Node) follow(c quorum.Config, changed bool) {
	e := n.cfg.Ensemble
	if older := e.Servers.Differs(c); changed && older != "" && !e.Admit && !n.peers.warned.Swap(true) {
		n.deps.Observer.Log.Warn("the server lines of this server's own file are not those of the ensemble any more, and do not count",
			"difference", older)
	}
	n.peers.link.SetPeers(e.addresses(c, changed))
}

// addresses are where the servers of a configuration are. What this box's own file says of a server stands until somebody
// changes the configuration, and for good where nobody may: an address such as 0.0.0.0 in one server's own line helps no
// other.
func (e *Ensemble) addresses(c quorum.Config, changed bool) map[uint64]string {
	peers := map[uint64]string{}
	for _, s := range c.Servers {
		id := uint64(s.ID)
		if id == e.Box {
			continue
		}
		peers[id] = s.PeerAddress()
		if own := e.Peers[id]; own != "" && (e.Static || !changed) {
			peers[id] = own
		}
	}
	return peers
}

// Message implements link.Handler.
func (p *peers) Message(from uint64, b []byte) {
	if e := p.ensemble.Load(); e != nil {
		_ = e.Receive(from, b) // what it does not take is as lost on the way
	}
}

// Stream implements link.Handler.
func (p *peers) Stream(from uint64, head []byte, size int64, r io.Reader) error {
	e := p.ensemble.Load()
	if e == nil {
		return errStarting
	}
	return e.ReceiveSnapshot(from, head, size, r)
}

// Pipe implements link.Handler. The ensemble has no use for one.
func (p *peers) Pipe(uint64, net.Conn) {}

// Lost implements link.Handler. What is urgent is sent again by itself: heartbeats, votes, read indexes.
func (p *peers) Lost(to uint64, urgent bool) {
	if urgent {
		return
	}
	if e := p.ensemble.Load(); e != nil {
		e.Unreachable(to)
	}
}

// Gone implements link.Handler.
func (p *peers) Gone(box uint64) {
	if e := p.ensemble.Load(); e != nil {
		e.Gone(box)
	}
}

// Link carries bytes between boxes; link.Link, whose methods these are, is the real one.
type Link interface {
	Handle(p link.Protocol, h link.Handler)
	Listen() error
	Start()
	SetPeers(peers map[uint64]string)
	Send(p link.Protocol, to uint64, message []byte, urgent bool)
	Stream(p link.Protocol, to uint64, head []byte, size int64, r io.Reader) error
	Ask(p link.Protocol, to uint64, question []byte) ([]byte, error)
	Open(p link.Protocol, to uint64) (net.Conn, error)
	Close() error
}

func (n *Node) newLink(cfg link.Config) (Link, error) {
	if n.deps.Link != nil {
		return n.deps.Link(cfg)
	}
	return link.New(cfg, link.Deps{Listen: n.deps.Listen, Dial: n.deps.Dial, Observer: n.deps.Observer})
}

// openLink opens the door for the other boxes. It begins to carry once the ensemble is there.
func (n *Node) openLink() error {
	e := n.cfg.Ensemble
	if e == nil {
		return nil
	}
	bounds := n.ensembleConfig().Limits
	l, err := n.newLink(
		link.Config{
			Box: e.Box, Cluster: e.Cluster, Listen: e.Listen, Peers: e.Peers,
			MessageBytesMax: ensemble.MessageBytesMax(bounds), StreamBytesMax: 2 * bounds.TreeBytesMax,
			QueueMax: 4 * bounds.ProposalsMax, QueueBytesMax: 2 * bounds.RaftInflightMax * int(bounds.RaftMessageBytesMax),
		})
	if err != nil {
		return err
	}
	if err := l.Listen(); err != nil {
		return errors.Join(fmt.Errorf("listen for the other servers on %s, where server %d is to be reached: %w", e.Listen, e.Box, err), l.Close())
	}
	n.peers = &peers{link: l, sending: map[uint64]bool{}}
	l.Handle(link.Raft, n.peers)
	if n.cfg.Kafka != nil {
		n.boxes = newBoxes(l, n.deps.Observer.Log)
		l.Handle(link.Broker, n.boxes)
	}
	n.closes("link", func() error {
		err := l.Close()
		n.peers.running.Wait()
		if n.boxes != nil {
			n.boxes.running.Wait()
		}
		return err
	})
	return nil
}

// resign lets another box lead before this one stops, which spares the others an election.
func (n *Node) resign() {
	if n.peers == nil {
		return
	}
	resigned := make(chan struct{})
	n.ensemble.Resign(func() { close(resigned) })
	<-resigned
}
