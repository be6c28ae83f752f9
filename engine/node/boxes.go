package node

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"
	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/seglog"
	"cairn/engine/link"
)

// boxes carries what the brokers of different boxes say to each other: followers' questions on pipes, vouchers as messages,
// and what one asks another now and then as questions. It is the link's Handler. A broker's id is its box's number.
type boxes struct {
	link    Link
	log     *slog.Logger
	broker  atomic.Pointer[broker] // nil while it is being opened, and then nothing is answered
	running sync.WaitGroup         // questions to others
}

func newBoxes(l Link, log *slog.Logger) *boxes { return &boxes{link: l, log: log} }

// A message is vouchers, of 40 bytes each: topic 16, partition 4, leader epoch 4, offset 8, broker epoch 8; big-endian. Whose they
// are the link knows.
const (
	voucherBytes = 16 + 4 + 4 + 8 + 8
	vouchersMax  = 8192
)

// Vouch implements fetcher.Leaders.
func (x *boxes) Vouch(to int32, vouchers []fetcher.Voucher) {
	for len(vouchers) > 0 {
		n := min(len(vouchers), vouchersMax)
		x.link.Send(link.Broker, uint64(to), appendVouchers(make([]byte, 0, n*voucherBytes), vouchers[:n]), false)
		vouchers = vouchers[n:]
	}
}

func appendVouchers(b []byte, vouchers []fetcher.Voucher) []byte {
	for _, v := range vouchers {
		b = append(b, v.Topic[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(v.Partition))
		b = binary.BigEndian.AppendUint32(b, uint32(v.Epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(v.Offset))
		b = binary.BigEndian.AppendUint64(b, uint64(v.Member.Epoch))
	}
	return b
}

// eachVoucher decodes what a broker has sent.
func eachVoucher(from int32, b []byte, f func(fetcher.Voucher)) error {
	if len(b)%voucherBytes != 0 {
		return fmt.Errorf("vouchers of %d bytes", len(b))
	}
	for ; len(b) > 0; b = b[voucherBytes:] {
		f(fetcher.Voucher{
			Topic: seglog.ID(b[:16]), Partition: int32(binary.BigEndian.Uint32(b[16:])), Epoch: int32(binary.BigEndian.Uint32(b[20:])),
			Offset: int64(binary.BigEndian.Uint64(b[24:])), Member: partition.Member{Broker: from, Epoch: int64(binary.BigEndian.Uint64(b[32:]))},
		})
	}
	return nil
}

// Message implements link.Handler.
func (x *boxes) Message(from uint64, b []byte) {
	k := x.broker.Load()
	if k == nil {
		return // it is said again
	}
	snapshot := k.catalog.Current()
	err := eachVoucher(int32(from), b, func(v fetcher.Voucher) {
		if t := snapshot.TopicByID(catalog.UUID(v.Topic)); t != nil {
			if r, err := k.topics.Lookup(t.Name, v.Partition); err == nil && r != nil && r.TopicID() == v.Topic {
				r.Vouch(v.Member, v.Epoch, v.Offset)
			}
		}
	})
	if err != nil {
		x.log.Error("message of another box's broker not understood", "box", from, "error", err)
	}
}

// Pipe implements link.Handler.
func (x *boxes) Pipe(from uint64, c net.Conn) {
	if k := x.broker.Load(); k != nil {
		k.server.ServeBox(c, int32(from))
	}
}

// open opens a pipe to a broker's box.
func (x *boxes) open(broker int32) (net.Conn, error) { return x.link.Open(link.Broker, uint64(broker)) }

// Stream implements link.Handler: brokers send none.
func (x *boxes) Stream(uint64, []byte, int64, io.Reader) error { return errors.ErrUnsupported }

// Lost implements link.Handler: vouchers without effect are said again.
func (x *boxes) Lost(uint64, bool) {}

// Gone implements link.Handler: the lease ends a broker's registration.
func (x *boxes) Gone(uint64) {}

// question is what one broker asks another; What says which of the rest is meant.
type question struct {
	What   string
	Topic  catalog.UUID               `json:",omitzero"`  // drop
	Name   string                     `json:",omitempty"` // ensure
	After  *controller.PartitionEpoch `json:",omitempty"` // epochs: those behind it
	InSync *controller.AlterInSync    `json:",omitempty"`
	Leave  *controller.Leave          `json:",omitempty"`
	Starts *startsAsked               `json:",omitempty"`

	Rebalance *controller.RebalanceControl `json:",omitempty"` // rebalance: what to do; nil: say how it stands
	Forward   *forwarded                   `json:",omitempty"`
}

// by is whether the question is what its box may ask: brokers speak for themselves.
func (q *question) by(box uint64) bool {
	return (q.InSync == nil || q.InSync.Broker == int32(box)) && (q.Leave == nil || q.Leave.Broker == int32(box))
}

// The questions.
const (
	askEpochs = "epochs" // the highest leader epoch in each log
	askDrop   = "drop"   // whether nothing of a deleted topic is left
	askStarts = "starts" // whether nothing before offsets is left
	askEnsure = "ensure" // of the controller: that a topic be there
	askIDs    = "ids"    // of the controller: a block of producer ids
	askInSync = "insync" // of the controller: other in-sync replicas
	askLeave  = "leave"  // of the controller: others to lead what a broker leads that stops

	askForward   = "forward"   // of the controller: what a client has asked another box for
	askRebalance = "rebalance" // of the controller: what it moves by itself, and that it pause or resume
)

// reply is the answer. Code is Kafka's.
type reply struct {
	Code    int16                       `json:",omitempty"`
	Message string                      `json:",omitempty"`
	Epochs  []controller.PartitionEpoch `json:",omitempty"`
	More    bool                        `json:",omitempty"`
	First   int64                       `json:",omitempty"`
	Count   int32                       `json:",omitempty"`
	InSync  []inSyncReply               `json:",omitempty"`
	Late    []int                       `json:",omitempty"`

	Rebalance *controller.RebalanceStatus `json:",omitempty"`
	Forward   json.RawMessage             `json:",omitempty"`
}

type inSyncReply struct {
	Topic     catalog.UUID
	Partition int32
	Code      int16  `json:",omitempty"`
	Message   string `json:",omitempty"`
}

// epochsMax is how many epochs one reply has: it must fit a question's bound.
const epochsMax = 400

// replyTime is how long a question may wait here for its answer: less than who asks waits.
const replyTime = 4 * time.Second

// Ask implements link.Handler.
func (x *boxes) Ask(from uint64, b []byte) []byte {
	k := x.broker.Load()
	var q question
	if k == nil || json.Unmarshal(b, &q) != nil || !q.by(from) {
		return nil
	}
	answers := make(chan reply, 1)
	k.answer(q, func(r reply) { answers <- r })
	select {
	case r := <-answers:
		out, err := json.Marshal(r)
		if err != nil {
			x.log.Error("answer to another box's broker not encoded", "box", from, "error", err)
			return nil
		}
		return out
	case <-time.After(replyTime):
		return nil
	}
}

// ask puts a question to a broker; done is called once, from any goroutine. Where no answer comes, which says nothing of what came of
// the question, the error is Kafka's REQUEST_TIMED_OUT.
func (x *boxes) ask(to int32, q question, done func(reply, error)) {
	x.running.Go(func() {
		b, err := json.Marshal(q)
		if err == nil {
			if b, err = x.link.Ask(link.Broker, uint64(to), b); err != nil { // as when it has gone, and nobody has its place yet
				err = &controller.Error{Kind: kerr.RequestTimedOut, Message: err.Error()}
			}
		}
		var r reply
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err == nil {
			err = errorOf(r.Code, r.Message)
		}
		done(r, err)
	})
}

// errorOf is an error as it came over the link; nil for none.
func errorOf(code int16, message string) error {
	kind := kerr.TypedErrorForCode(code)
	if kind == nil {
		return nil
	}
	return &controller.Error{Kind: kind, Message: message}
}

// codeOf is an error as it goes over the link.
func codeOf(err error) (int16, string) {
	e := controller.AsError(err)
	if e == nil {
		return 0, ""
	}
	return e.Kind.Code, e.Message
}
