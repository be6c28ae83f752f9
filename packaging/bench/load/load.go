package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long a connection may take to answer before the run has failed.
const patience = 30 * time.Second

// Talker makes the requests of one connection and judges the responses.
type Talker interface {
	// Open is called on the new connection before the first request.
	Open(conn net.Conn) error
	// Append appends the next request, a whole frame, under an id that the response must carry at its fourth byte. Ids count
	// from 1. Nothing appended: this connection has no more requests.
	Append(dst []byte, id uint32) []byte
	// Check judges a response frame, its length bytes included, valid during the call, and returns how many bytes of payload
	// were moved. In a run with a Rate it may be called beside Append.
	Check(frame []byte) (payload int, err error)
}

// Plan is one run.
type Plan struct {
	Address     string             // on loopback
	Addresses   []string           // if not empty, the connections take these in turn instead
	Connections int                // each 50 come from a loopback address of their own
	Window      int                // requests in flight on each connection
	Talker      func(i int) Talker // of the i-th connection
	WarmUp      time.Duration      // time before the measurement
	Measure     time.Duration      // time of the measurement
	Until       <-chan struct{}    // if not nil, the measurement ends when it is closed instead of after Measure
	Requests    uint64             // if not 0, the run ends after so many responses instead; WarmUp is then ignored
	UntilDone   bool               // the run ends when no connection has more requests; WarmUp and Measure are then ignored
	// Rate, if not 0, is how many requests a second are offered over all connections, at the times of a schedule that waits
	// for no answer: only a full Window holds a request back, and its latency counts from its time in the schedule.
	Rate float64
	Mark func(begin bool) // if not nil, called when the measurement begins and when it ends
}

// Result is what the measurement has seen, the warm-up left out.
type Result struct {
	Requests uint64
	Payload  uint64 // bytes
	Elapsed  time.Duration
	P50, P99 time.Duration
}

// PerSecond is the number of requests answered in a second.
func (r Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// counters of one connection. Written by it, read by Run.
type counters struct {
	requests atomic.Uint64
	payload  atomic.Uint64
	_        [48]byte // keeps two connections' counters off one cache line
}

// run is a Plan under way.
type run struct {
	plan     Plan
	counts   []counters
	latency  []histogram // of each connection; read when it has ended
	measured atomic.Bool // latencies count now
	stop     atomic.Bool // no more requests
	left     atomic.Int64
	begun    time.Time // all connections are open; the schedule of a Rate counts from here
}

// Run drives the plan to its end. ctx ends it early with an error.
func Run(ctx context.Context, plan Plan) (Result, error) {
	r := &run{plan: plan, counts: make([]counters, plan.Connections), latency: make([]histogram, plan.Connections)}
	r.left.Store(int64(plan.Requests))
	conns := make([]*conn, plan.Connections)
	for i := range conns {
		c, err := dial(ctx, r, i)
		if err != nil {
			for _, open := range conns[:i] {
				open.net.Close()
			}
			return Result{}, err
		}
		conns[i] = c
	}
	r.begun = time.Now()
	var group sync.WaitGroup
	errs := make([]error, len(conns))
	failed := make(chan struct{})
	var once sync.Once
	for i, c := range conns {
		group.Go(func() {
			defer c.net.Close()
			if errs[i] = c.run.driver()(c); errs[i] != nil {
				once.Do(func() { close(failed) })
			}
		})
	}
	ended := make(chan struct{})
	go func() { group.Wait(); close(ended) }()
	result := r.watch(ctx, failed, ended)
	r.stop.Store(true)
	if ctx.Err() != nil {
		for _, c := range conns {
			c.net.Close()
		}
	}
	<-ended
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return Result{}, fmt.Errorf("load on %s: %w", strings.Join(append(plan.Addresses, plan.Address), " "), err)
	}
	var all histogram
	for i := range r.latency {
		all.add(&r.latency[i])
	}
	result.P50, result.P99 = all.quantile(0.50), all.quantile(0.99)
	return result, nil
}

// watch waits through warm-up and measurement and returns the difference of the counters between them.
func (r *run) watch(ctx context.Context, failed, ended <-chan struct{}) Result {
	timed := r.plan.Requests == 0 && !r.plan.UntilDone
	if timed && !pause(ctx, failed, ended, r.plan.WarmUp) {
		return Result{}
	}
	r.mark(true)
	r.measured.Store(true)
	start := time.Now()
	requests, payload := r.sum()
	if timed && r.plan.Until != nil {
		select {
		case <-r.plan.Until:
		case <-ctx.Done():
		case <-failed:
		}
	} else if timed {
		pause(ctx, failed, ended, r.plan.Measure)
	} else {
		select {
		case <-ctx.Done():
		case <-ended:
		}
	}
	requestsEnd, payloadEnd := r.sum()
	elapsed := time.Since(start)
	r.measured.Store(false)
	r.mark(false)
	return Result{Requests: requestsEnd - requests, Payload: payloadEnd - payload, Elapsed: elapsed}
}

// driver is how a connection sends.
func (r *run) driver() func(*conn) error {
	if r.plan.Rate > 0 {
		return (*conn).drivePaced
	}
	return (*conn).drive
}

// address is where the i-th connection goes.
func (p *Plan) address(i int) string {
	if len(p.Addresses) > 0 {
		return p.Addresses[i%len(p.Addresses)]
	}
	return p.Address
}

func (r *run) mark(begin bool) {
	if r.plan.Mark != nil {
		r.plan.Mark(begin)
	}
}

func (r *run) sum() (requests, payload uint64) {
	for i := range r.counts {
		requests += r.counts[i].requests.Load()
		payload += r.counts[i].payload.Load()
	}
	return requests, payload
}

// take says whether one more request may be sent.
func (r *run) take() bool {
	if r.stop.Load() {
		return false
	}
	return r.plan.Requests == 0 || r.left.Add(-1) >= 0
}

// pause waits, and says whether it could wait to the end.
func pause(ctx context.Context, failed, ended <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-failed:
	case <-ended:
	}
	return false
}
