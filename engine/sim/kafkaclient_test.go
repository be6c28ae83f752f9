package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitionName names a partition.
type partitionName struct {
	topic     string
	partition int32
}

func (p partitionName) String() string { return fmt.Sprintf("%s-%d", p.topic, p.partition) }

// kafkaClient is what Kafka's clients are made of: connections to brokers, requests that are answered in order on each, and
// what it knows of who leads what.
type kafkaClient struct {
	w       *world
	name    string
	address netip.AddrPort
	conns   map[uint64]*kafkaConn
	leaders map[partitionName]leaderInfo
	asking  bool          // for metadata
	asked   time.Duration // when it was asked for last
}

// leaderInfo is what metadata said of a partition.
type leaderInfo struct {
	box   uint64
	epoch int32
}

// kafkaConn is a client's connection to one broker.
type kafkaConn struct {
	k       *kafkaClient
	box     uint64
	wire    *wire
	in      []byte
	waiting []*kafkaCall
	count   int32
	watched bool
	over    bool
}

// kafkaCall is a request without an answer.
type kafkaCall struct {
	correlation int32
	req         kmsg.Request
	deadline    time.Duration
	done        func(kmsg.Response, error)
}

// callTime is how long a client waits for an answer.
const callTime = 3 * time.Second

var errLost = errors.New("the connection was lost, or nobody answered in time")

func newKafkaClient(w *world, name string, number int) *kafkaClient {
	return &kafkaClient{
		w: w, name: name, address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, byte(number)}), 50000), conns: map[uint64]*kafkaConn{},
		leaders: map[partitionName]leaderInfo{},
	}
}

// ask sends a request to a box. done is called once, later.
func (k *kafkaClient) ask(box uint64, req kmsg.Request, version int16, done func(kmsg.Response, error)) {
	c := k.conns[box]
	if c == nil {
		c = &kafkaConn{k: k, box: box}
		x, err := k.w.dial(c, k.w.boxes[box], kafkaPort)
		if err != nil {
			k.w.sched.After(time.Duration(k.w.rand().Int64N(int64(50*time.Millisecond))), "refused", func() { done(nil, err) })
			return
		}
		c.wire = x
		k.conns[box] = c
	}
	req.SetVersion(version)
	c.count++
	call := &kafkaCall{correlation: c.count, req: req, deadline: k.w.now() + callTime, done: done}
	c.waiting = append(c.waiting, call)
	c.wire.send(kmsg.NewRequestFormatter(kmsg.FormatterClientID(k.name)).AppendRequest(nil, req, call.correlation))
	c.watch()
}

// watch drops the connection when its oldest request has no answer in time.
func (c *kafkaConn) watch() {
	if c.watched || c.over || len(c.waiting) == 0 {
		return
	}
	c.watched = true
	c.k.w.sched.After(c.waiting[0].deadline-c.k.w.now(), "call", func() {
		c.watched = false
		if len(c.waiting) > 0 && c.waiting[0].deadline <= c.k.w.now() {
			c.drop("no answer in time")
		}
		c.watch()
	})
}

// pick is any box.
func (k *kafkaClient) pick() uint64 { return k.w.ids[k.w.rand().IntN(len(k.w.ids))] }

// again is the pause before something is tried once more.
func (k *kafkaClient) again(f func()) {
	k.w.sched.After(20*time.Millisecond+time.Duration(k.w.rand().Int64N(int64(80*time.Millisecond))), k.name, func() {
		if !k.w.over {
			f()
		}
	})
}

// metadataEvery is the least time between two questions about who leads.
const metadataEvery = 100 * time.Millisecond

// refresh asks some box who leads, unless it was asked just now.
func (k *kafkaClient) refresh() {
	if k.asking || k.w.now()-k.asked < metadataEvery {
		return
	}
	k.asking, k.asked = true, k.w.now()
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range k.w.kafka.topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	k.ask(k.pick(), req, 12, func(resp kmsg.Response, err error) {
		k.asking = false
		if err != nil {
			return
		}
		for _, t := range resp.(*kmsg.MetadataResponse).Topics {
			for _, p := range t.Partitions {
				name := partitionName{*t.Topic, p.Partition}
				if known, ok := k.leaders[name]; p.ErrorCode == 0 && p.Leader >= 0 && (!ok || p.LeaderEpoch >= known.epoch) {
					k.leaders[name] = leaderInfo{uint64(p.Leader), p.LeaderEpoch}
				}
			}
		}
	})
}

// leader is who is believed to lead; false asks for metadata.
func (k *kafkaClient) leader(p partitionName) (uint64, bool) {
	l, ok := k.leaders[p]
	if !ok {
		k.refresh()
	}
	return l.box, ok
}

func (c *kafkaConn) label() string        { return c.k.name }
func (c *kafkaConn) from() netip.AddrPort { return c.k.address }

func (c *kafkaConn) drop(why string) {
	if !c.over {
		c.wire.hangUp()
		c.lost(c.wire, why)
	}
}

func (c *kafkaConn) lost(_ *wire, why string) {
	if c.over {
		return
	}
	c.over = true
	c.k.w.trace("%s has lost box %d: %s", c.k.name, c.box, why)
	if c.k.conns[c.box] == c {
		delete(c.k.conns, c.box)
	}
	waiting := c.waiting
	c.waiting = nil
	for _, call := range waiting {
		call.done(nil, errLost)
	}
}

func (c *kafkaConn) receive(_ *wire, b []byte) {
	c.in = append(c.in, b...)
	for !c.over && len(c.in) >= 4 {
		n := int(binary.BigEndian.Uint32(c.in))
		if len(c.in) < 4+n {
			return
		}
		frame := slices.Clone(c.in[4 : 4+n])
		c.in = c.in[4+n:]
		c.take(frame)
	}
}

func (c *kafkaConn) take(frame []byte) {
	w := c.k.w
	if len(c.waiting) == 0 || int32(binary.BigEndian.Uint32(frame)) != c.waiting[0].correlation {
		w.failf("%s: an answer of box %d out of order", c.k.name, c.box)
		return
	}
	call := c.waiting[0]
	c.waiting = c.waiting[1:]
	resp := call.req.ResponseKind()
	resp.SetVersion(call.req.GetVersion())
	body := frame[4:]
	if resp.IsFlexible() {
		body = body[1:] // no tags
	}
	if err := resp.ReadFrom(body); err != nil {
		w.failf("%s: an answer of box %d to %s: %v", c.k.name, c.box, kmsg.NameForKey(call.req.Key()), err)
		return
	}
	call.done(resp, nil)
}
