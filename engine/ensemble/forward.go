package ensemble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/znode"
)

// A message between boxes is a byte that says what it is, and:
//
//	frameRaft      a raft message, protobuf
//	frameForward   stream, sequence of the first write, incarnation (8 bytes each); of each write: request (8 bytes), length
//	               (4 bytes), the write as znode.Entry, not stamped
//	frameRefused   incarnation, request (8 bytes each), reason (1 byte)
//	frameTouched   sessions (8 bytes each)
//	framePromises  of each member: raft id, the highest committed index that it has acknowledged (8 bytes each)
//	frameTransfer  the server that is to lead (8 bytes)
//	frameClaim     raft id (8 bytes), the name of the disk that acknowledges under it
//	frameState     term (8 bytes), the newest rules that the box can run (4 bytes), the name of its build
//	frameDigest    index, digest (8 bytes each): of this box's tree
//	frameDiffers   index, digest (8 bytes each): the right one, to the box that has another
//	frameAsk       index, digest (8 bytes each): the same back, 0 after a restart; the least index of a snapshot (8 bytes)
//
// With a snapshot's file goes frameRaft, or to who has asked for the tree:
//
//	frameTree      index, term (8 bytes each)
//
// Integers are big-endian. Forwards of one stream are proposed in the order of their sequence, from 0 on, or not at all:
// once one is missing, the leader refuses the rest, and the box begins another stream. So the writes of a session keep
// their order though messages may be lost.
const (
	frameRaft = 1 + iota
	frameForward
	frameRefused
	frameTouched
	frameState
	frameClaim
	frameDigest
	frameDiffers
	frameAsk
	frameTree
	frameTransfer
	framePromises
)

// peerFrame is a decoded message that is not raft's.
type peerFrame struct {
	kind             byte
	stream, sequence uint64
	from             origin // box is left to whoever knows the sender
	writes           []forwarded
	reason           error
	sessions         []int64
	raft             uint64
	disk             string
	promises         map[uint64]uint64
	term             uint64
	rules            uint32
	build            string
	index, digest    uint64
	least            uint64
}

// forwarded is a write that another box hands over.
type forwarded struct {
	request uint64
	entry   *znode.Entry
}

var errPeerFrame = errors.New("malformed message")

// decodePeer decodes what is not raft's. The frame may alias b.
func decodePeer(b []byte) (*peerFrame, error) {
	f := &peerFrame{kind: b[0]}
	b = b[1:]
	word := func() (v uint64) {
		if len(b) < 8 {
			return 0
		}
		v, b = binary.BigEndian.Uint64(b), b[8:]
		return v
	}
	switch {
	case f.kind == frameForward && len(b) >= 3*8:
		f.stream, f.sequence, f.from.incarnation = word(), word(), word()
		return f, f.decodeWrites(b)
	case f.kind == frameRefused && len(b) == 2*8+1:
		f.from.incarnation, f.from.request = word(), word()
		f.reason = refusals[min(int(b[0]), len(refusals)-1)]
		return f, nil
	case f.kind == frameTouched && len(b)%8 == 0:
		f.sessions = make([]int64, len(b)/8)
		for i := range f.sessions {
			f.sessions[i] = int64(word())
		}
		return f, nil
	case f.kind == frameState:
		return f, decodeState(f, b)
	case (f.kind == frameDigest || f.kind == frameDiffers) && len(b) == 2*8, f.kind == frameAsk && len(b) == 3*8:
		f.index, f.digest, f.least = word(), word(), word()
		return f, nil
	case f.kind == framePromises && len(b)%16 == 0 && len(b) <= 16*quorum.ServersMax:
		f.promises = map[uint64]uint64{}
		for len(b) > 0 {
			id := word()
			f.promises[id] = word()
		}
		return f, nil
	case f.kind == frameTransfer && len(b) == 8:
		f.raft = word()
		return f, nil
	case f.kind == frameClaim && len(b) > 8 && len(b) <= 8+64:
		f.raft = word()
		f.disk = string(b)
		return f, nil
	}
	return f, fmt.Errorf("%w of kind %d and %d bytes", errPeerFrame, f.kind, len(b))
}

// forwardHead precedes a write that is handed over: its request and its length.
const forwardHead = 8 + 4

func (f *peerFrame) decodeWrites(b []byte) error {
	for len(b) > 0 {
		if len(b) < forwardHead || len(f.writes) == gatherEntriesMax {
			return fmt.Errorf("%w: %d writes handed over, and %d bytes more", errPeerFrame, len(f.writes), len(b))
		}
		w := forwarded{binary.BigEndian.Uint64(b), &znode.Entry{}}
		n := uint64(binary.BigEndian.Uint32(b[8:]))
		if b = b[forwardHead:]; n > uint64(len(b)) {
			return fmt.Errorf("%w: a write of %d bytes in %d", errPeerFrame, n, len(b))
		}
		if err := w.entry.Unmarshal(b[:n]); err != nil {
			return err
		}
		f.writes, b = append(f.writes, w), b[n:]
	}
	return nil
}

// words is a frame of 8-byte words.
func words(kind byte, values ...uint64) []byte {
	b := []byte{kind}
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// refusals are why a leader did not propose what it was handed, by their number on the wire. None of them has proposed it.
var refusals = []error{ErrNotLeader, ErrNoQuorum, ErrFull, ErrTreeFull, ErrTooLarge}

func refusalNumber(err error) byte {
	for i, known := range refusals {
		if errors.Is(err, known) {
			return byte(i)
		}
	}
	return 0
}

// forwardWaitMax is how long a write that was handed over may be without an outcome while the leader stays. The leader's
// answer may be lost; nobody knows then.
const forwardWaitMax = 5 * time.Second

// uplink is the stream of writes that this box hands to the leader of one term.
type uplink struct {
	to, term     uint64
	stream, next uint64
	waiting      []origin // in order; those with an outcome are skipped
	gathered     [][]byte // are not on their way yet: what each message costs both boxes is shared
	gathering    gathering
}

// forward hands a write to the leader. It is kept until it is applied here.
func (o *owner) forward(p *proposal) error {
	u := &o.up
	if u.to == 0 {
		u.to, u.term = o.leader(), o.node.BasicStatus().HardState.GetTerm()
		u.stream, u.next = u.stream+1, 0
	}
	head := binary.BigEndian.AppendUint64(make([]byte, 0, forwardHead+entryRoom(&p.write.Entry)), p.from.request)
	data, err := o.encode(p, head[:forwardHead])
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(data[8:], uint32(len(data)-forwardHead))
	p.sent = o.now.Mono
	o.keepPending(p, len(data))
	u.waiting = append(u.waiting, p.from)
	u.gathered = append(u.gathered, data)
	u.gathering.add(o.now.Mono, 0, p.write.Entry.Session, len(data))
	return nil
}

// hand sends what was gathered, unless that is to wait for more.
func (u *uplink) hand(o *owner) {
	if len(u.gathered) == 0 || u.gathering.until(o.now.Mono) > o.now.Mono {
		return
	}
	for rest := u.gathered; len(rest) > 0; {
		n, bytes := 0, 0
		for n < min(len(rest), gatherEntriesMax) && (n == 0 || bytes+len(rest[n]) <= gatherBytesMax) {
			bytes += len(rest[n])
			n++
		}
		b := append(make([]byte, 0, 1+3*8+bytes), words(frameForward, u.stream, u.next, o.incarnation)...)
		for _, write := range rest[:n] {
			b = append(b, write...)
		}
		o.e.deps.Transport.Send(u.to, b, false)
		u.next += uint64(n)
		rest = rest[n:]
	}
	u.forget()
}

// forget drops what was gathered.
func (u *uplink) forget() {
	clear(u.gathered)
	u.gathered = u.gathered[:0]
	u.gathering.handed()
}

// follow ends the stream when its leader is not that of its term any more: what was handed over may come to pass or not.
func (u *uplink) follow(o *owner) {
	if u.to != 0 && (u.to != o.leader() || u.term != o.node.BasicStatus().HardState.GetTerm()) {
		u.end(o)
	}
}

// expire ends the stream when its oldest write has waited too long. It also forgets what has its outcome.
func (u *uplink) expire(o *owner) {
	for len(u.waiting) > 0 {
		p := o.pending[u.waiting[0]]
		if p != nil && o.now.Mono-p.sent < forwardWaitMax {
			return
		}
		if p != nil {
			u.end(o)
			return
		}
		u.waiting = u.waiting[1:]
	}
}

// end fails what was handed over and has no outcome; what was not on its way yet waits for a leader. The next forward begins
// another stream.
func (u *uplink) end(o *owner) {
	sent := max(len(u.waiting)-len(u.gathered), 0)
	waiting, unsent := u.waiting[:sent], u.waiting[sent:]
	u.to, u.waiting = 0, nil
	u.forget()
	for _, from := range waiting {
		if p := o.settle(from); p != nil {
			o.abandon(p, ErrUncertain)
		}
	}
	for _, from := range unsent {
		if p := o.settle(from); p != nil {
			p.sent = 0
			o.park(p)
		}
	}
}

// unreachable ends the stream when something that was sent to the leader is lost. It may have been who was heard, too.
func (o *owner) unreachable(box uint64) {
	o.retell = o.retell || box == o.leader()
	if o.up.to == box {
		o.up.end(o)
	}
}

// inbound is the stream of writes that another box hands to this one.
type inbound struct {
	incarnation  uint64
	stream, next uint64
	broken       bool // something is missing: the rest is refused
}

// takePeer handles a message of another box that is not raft's.
func (o *owner) takePeer(box uint64, f *peerFrame) {
	f.from.box = box
	switch f.kind {
	case frameForward:
		o.takeForward(f)
	case frameRefused:
		f.from.box = o.e.cfg.Box
		if p := o.settle(f.from); p != nil {
			o.abandon(p, f.reason)
		}
		if f.from.incarnation == o.incarnation && f.reason == ErrNotLeader {
			o.up.end(o)
		}
	case framePromises:
		if box == o.leader() {
			for id, index := range f.promises {
				o.promises.note(id, index)
			}
		}
	case frameTransfer:
		if o.role == raft.StateLeader {
			if err := o.handTo(f.raft); err != nil {
				o.e.deps.Observer.Log.Warn("the leadership stays", "asked_by", box, "error", err)
			}
		}
	case frameClaim:
		if quorum.ServerOf(f.raft) == box {
			o.takeClaim(f.raft, f.disk)
		}
	case frameTouched:
		if o.ready {
			for _, id := range f.sessions {
				o.keep.Touch(o.now, id)
			}
		}
	case frameState:
		o.takeState(box, f)
	case frameDigest:
		o.takeDigest(box, f)
	case frameDiffers:
		o.takeDiffers(box, f)
	case frameAsk:
		o.takeAsk(box, f)
	}
}

// takeForward proposes what another box hands over, in the order of its stream.
func (o *owner) takeForward(f *peerFrame) {
	s := o.streams[f.from.box]
	if s == nil || s.incarnation != f.from.incarnation || f.stream > s.stream {
		s = &inbound{incarnation: f.from.incarnation, stream: f.stream}
		if o.streams == nil {
			o.streams = make(map[uint64]*inbound)
		}
		o.streams[f.from.box] = s
	}
	for i, w := range f.writes {
		from := origin{f.from.box, f.from.incarnation, w.request}
		if err := o.takeWrite(s, f.stream, f.sequence+uint64(i), from, w.entry); err != nil {
			o.refuseForward(from, err)
		}
	}
}

// takeWrite takes one of them, or says why not.
func (o *owner) takeWrite(s *inbound, stream, sequence uint64, from origin, entry *znode.Entry) error {
	switch {
	case stream == s.stream && sequence < s.next:
		return nil // a double
	case stream < s.stream || s.broken || sequence != s.next || o.role != raft.StateLeader || o.differs != nil:
		s.broken = s.broken || stream == s.stream
		return ErrNotLeader
	}
	s.next++
	if entry.Kind == znode.KindSetRules {
		return ErrNotLeader // only the leader that has asked the members may
	}
	p := &proposal{write: Write{Entry: *entry}, from: from}
	if o.course() == coursePark {
		return o.parkForward(p)
	}
	return o.offer(p)
}

// parkForward keeps what another box hands over until this one has applied what was committed before its term.
func (o *owner) parkForward(p *proposal) error {
	if err := o.admit(p); err != nil {
		return err
	}
	o.park(p)
	return nil
}

func (o *owner) refuseForward(from origin, err error) {
	o.e.deps.Transport.Send(from.box, append(words(frameRefused, from.incarnation, from.request), refusalNumber(err)), false)
}

const (
	// touchedMax is how many sessions one message names.
	touchedMax = 8192
	// retellMax is how far back a report goes behind one that was lost: as a rule a connection that carries nothing is given
	// up sooner. By so much a session may outlive its time.
	retellMax = 3 * time.Second
)

// reportTouched tells the leader which sessions were heard from since it was told last.
func (o *owner) reportTouched() {
	if o.lead == raft.None || o.lead == o.id || o.now.Mono < o.nextTouch {
		return
	}
	o.nextTouch = o.now.Mono + min(reportInterval, o.e.cfg.TickTime/2)
	retell := o.retell
	o.retell = false
	b := []byte{frameTouched}
	o.e.mu.RLock()
	defer o.e.mu.RUnlock()
	for id, a := range o.e.attached {
		if a.local {
			continue
		}
		if at := time.Duration(a.touched.Swap(0)); at != 0 {
			a.told = at
		} else if !retell || o.now.Mono-a.told > retellMax {
			continue
		}
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		if len(b) > 8*touchedMax {
			o.e.deps.Transport.Send(o.leader(), b, false)
			b = []byte{frameTouched}
		}
	}
	if len(b) > 1 {
		o.e.deps.Transport.Send(o.leader(), b, false)
	}
}

// heard notes that a box lives.
func (o *owner) heard(box uint64) {
	o.heardAt[box] = o.now.Mono
	delete(o.ended, box)
	if box == o.leader() {
		o.leaderHeard = o.now.Mono
	}
	if o.ready {
		o.keep.Heard(o.now, box)
	}
}

// silence is how long no leader was heard.
func (o *owner) silence() time.Duration {
	if o.leaderHeard == 0 {
		return 0
	}
	return o.now.Mono - o.leaderHeard
}
