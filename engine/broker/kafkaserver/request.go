package kafkaserver

import (
	"context"
	"sync/atomic"
	"time"

	"cairn/engine/broker/wire"
	"cairn/platform/sockio"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// request is one request while it is being handled. A handler gets it on the connection's reading goroutine, may keep
// it, and calls exactly one of respond, respondParts, respondNothing and closeConn, now or later, from any goroutine.
// That call ends the handler's right to body and to every byte slice in it: they point into a pooled frame.
type request struct {
	conn        *conn
	api         *api
	version     int16
	correlation int32
	// clientID is what the client calls itself; empty when it sent none or null.
	clientID string
	// body is the decoded request, of the type that the table's constructor made. Byte slices in it are borrowed until
	// the request is answered; what outlives the answer must be cloned. Strings are copies, except for APIs that are
	// marked borrows in the table.
	body kmsg.Request
	// arrived is when the frame had been read, on the server's monotonic clock.
	arrived time.Duration

	frame     *wire.Frame
	frameCost int64
	cost      int64 // bytes counted against the server's budget for the frame and what it decoded into
	bulky     bool  // holds a place among the bulky requests
	answered  atomic.Bool
	abandoned atomic.Bool

	// The answer; protected by conn.mu.
	inline  bool // the handler runs on the reading goroutine, which will send what is ready when it returns
	ready   bool
	taken   bool          // by the goroutine that sends
	message kmsg.Response // to be encoded when it is sent
	encoded *[]byte       // pooled
	parts   []sockio.Part
	sent    func() // gives back what parts borrow
	bytes   int64  // of the answer, counted against the budget
	close   string // not empty: the connection is closed instead, for this reason
}

// newRequest makes a request with a body to decode into, or takes one that has been answered, where the API allows it.
func (s *Server) newRequest(a *api) *request {
	if a.reused {
		if r, ok := a.pool.Get().(*request); ok {
			return r
		}
	}
	return &request{api: a, body: a.new()}
}

// recycle keeps an answered request for the next one of its API. Nobody may hold it any more.
func (s *Server) recycle(r *request) {
	if p, ok := r.body.(*kmsg.ProduceRequest); ok && r.api.reused && cap(p.Topics) <= produceKeepMax {
		clear(p.Topics[:cap(p.Topics)]) // what points into the frame
		p.TransactionID = nil
		a := r.api
		*r = request{api: a, body: p}
		a.pool.Put(r)
	}
}

// respond answers with resp, which is encoded before the call returns and may be reused. Its version is set here.
// A second answer is a bug: it is logged and dropped.
func (r *request) respond(resp kmsg.Response) {
	if !r.answer() {
		return
	}
	resp.SetVersion(r.version)
	r.encoded = r.conn.server.buffers.get()
	*r.encoded = wire.AppendResponse((*r.encoded)[:0], r.correlation, resp)
	r.conn.complete(r)
}

// respondOwned is respond for owners' goroutines: resp is encoded later, on the connection's own goroutine, and belongs
// to the connection. Nothing in it may point into the request.
func (r *request) respondOwned(resp kmsg.Response) {
	if !r.answer() {
		return
	}
	resp.SetVersion(r.version)
	r.message = resp
	r.conn.complete(r)
}

// respondParts answers with a whole frame of bytes and file ranges. sent is called once they have left or never will.
func (r *request) respondParts(parts []sockio.Part, sent func()) {
	if !r.answer() {
		sent()
		return
	}
	r.parts, r.sent = parts, sent
	r.conn.complete(r)
}

// respondNothing ends a request that has no answer on the wire, which is Produce with acks=0 alone.
func (r *request) respondNothing() {
	if r.answer() {
		r.conn.complete(r)
	}
}

// closeConn ends the request by closing the connection, which is Kafka's answer to what it cannot parse, to versions it
// does not serve, and to a failed Produce with acks=0. Answers to earlier requests are still sent. The reason is
// counted and logged at debug level: clients that a stranger wrote must not fill the log.
func (r *request) closeConn(reason string) {
	if r.answer() {
		r.close = reason
		r.conn.complete(r)
	}
}

// abandon ends a request whose connection has closed while it was parked. Its frame is left to the collector, since
// another goroutine may just be looking at it; that goroutine's answer is dropped.
func (r *request) abandon() {
	if r.answered.CompareAndSwap(false, true) {
		r.abandoned.Store(true)
		r.frame = nil
		r.conn.complete(r)
	}
}

func (r *request) answer() bool {
	if r.answered.CompareAndSwap(false, true) {
		return true
	}
	if !r.abandoned.Load() {
		r.conn.server.log.Error("request answered twice: this is a bug in cairn", "api", r.api.name, "version", r.version)
	}
	return false
}

// finish gives back what the answer holds, once it has left or never will.
func (r *request) finish(now time.Duration) {
	s := r.conn.server
	s.buffers.put(r.encoded)
	s.budget.give(r.bytes)
	if r.sent != nil {
		r.sent()
	}
	r.encoded, r.parts, r.sent, r.message = nil, nil, nil, nil
	r.api.metrics.seconds.Observe((now - r.arrived).Seconds())
	r.api.metrics.count.Inc()
}

// context is done when the connection closes. Parked work should be given up then: nobody reads the answer.
func (r *request) context() context.Context { return r.conn.ctx }

// onClose has f called, once, if the connection closes before the request is answered; from any goroutine, and it must
// not block. Only requests that are not pipelined may use it. It reports false when the connection is closed already.
func (r *request) onClose(f func()) bool { return r.conn.setOnClose(f) }

// onNext has f called, once, when another request has come behind this one, which waits; from the reading goroutine, and
// it must not block. The same requests may use it as onClose.
func (r *request) onNext(f func()) { r.conn.setOnNext(f) }

// clientHost is the client's address as Kafka shows it in DescribeGroups, with a leading slash.
func (r *request) clientHost() string { return "/" + r.conn.clientAddr.String() }

// later runs f on the connection's responder goroutine, where it may block for disk reads but not for other clients.
// It may be called from any goroutine and never blocks. After the connection closed, f is not run.
func (r *request) later(f func()) { r.conn.later(f) }

// now is the server's monotonic time.
func (r *request) now() time.Duration { return r.conn.server.deps.Clock.Now().Mono }
