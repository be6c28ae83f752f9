package load

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"cairn/packaging/bench/frames"
)

// serve answers every getData on one listener with data bytes, or with an error after good replies.
func serve(t *testing.T, data, good int) string { return serveSlowly(t, data, good, nil) }

// serveSlowly is serve with something that is called before each answer.
func serveSlowly(t *testing.T, data, good int, hold func()) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				reply := make([]byte, frames.GetDataReplyBytes(data))
				reply[3] = byte(len(reply) - 4)
				for n := 0; ; n++ {
					request, err := ReadFrame(c, nil)
					if err != nil {
						return
					}
					if n == good {
						reply[19] = 1
					}
					frames.SetCorrelation(reply, frames.XID(request))
					if hold != nil {
						hold()
					}
					if _, err := c.Write(reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func getter(int) Talker {
	return &Getter{Request: frames.GetData("/bench"), Data: 10, Echo: true}
}

func TestRunCountsEveryRequest(t *testing.T) {
	plan := Plan{Address: serve(t, 10, -1), Connections: 3, Window: 4, Talker: getter, Requests: 1000}
	result, err := Run(context.Background(), plan)
	if err != nil || result.Requests != 1000 || result.Payload != 10000 || result.P50 == 0 || result.P99 < result.P50 {
		t.Fatalf("%+v, error %v", result, err)
	}
}

func TestRunByTime(t *testing.T) {
	marks := 0
	plan := Plan{Address: serve(t, 10, -1), Connections: 2, Window: 8, Talker: getter, WarmUp: 20 * time.Millisecond, Measure: 50 * time.Millisecond,
		Mark: func(bool) { marks++ }}
	result, err := Run(context.Background(), plan)
	if err != nil || result.Requests == 0 || marks != 2 {
		t.Fatalf("%+v, %d marks, error %v", result, marks, err)
	}
}

func TestRunUntilNothingMoreIsAsked(t *testing.T) {
	asked := func(int) Talker { return &limited{Talker: getter(0), left: 100} }
	plan := Plan{Addresses: []string{serve(t, 10, -1), serve(t, 10, -1)}, Connections: 3, Window: 7, Talker: asked, UntilDone: true}
	result, err := Run(context.Background(), plan)
	if err != nil || result.Requests != 300 {
		t.Fatalf("%+v, error %v", result, err)
	}
}

// limited asks a number of times.
type limited struct {
	Talker
	left int
}

func (l *limited) Append(dst []byte, id uint32) []byte {
	if l.left--; l.left < 0 {
		return dst
	}
	return l.Talker.Append(dst, id)
}

func TestRunKeepsItsRate(t *testing.T) {
	plan := Plan{Address: serve(t, 10, -1), Connections: 4, Window: 8, Talker: getter, Rate: 400, WarmUp: 100 * time.Millisecond, Measure: 500 * time.Millisecond}
	result, err := Run(context.Background(), plan)
	if err != nil || result.Requests < 150 || result.Requests > 250 {
		t.Fatalf("%+v, error %v", result, err)
	}
}

// A server that stalls must be seen in the latencies of what was due meanwhile, not only in that of one request.
func TestRunWithARateCountsFromTheSchedule(t *testing.T) {
	stalled := false // one connection, hence one goroutine
	stall := func() {
		if !stalled {
			stalled = true
			time.Sleep(450 * time.Millisecond) // the stall is what is measured, not a wait for a state
		}
	}
	plan := Plan{Address: serveSlowly(t, 10, -1, stall), Connections: 1, Window: 2, Talker: getter, Rate: 100, Measure: 600 * time.Millisecond}
	result, err := Run(context.Background(), plan)
	if err != nil || result.P50 < 20*time.Millisecond {
		t.Fatalf("%+v, error %v: half of the requests were due during the stall", result, err)
	}
}

func TestRunWithARateFailsOnAnError(t *testing.T) {
	plan := Plan{Address: serve(t, 10, 5), Connections: 2, Window: 2, Talker: getter, Rate: 1000, Measure: 20 * time.Second}
	if _, err := Run(context.Background(), plan); err == nil {
		t.Fatal("an error reply passed")
	}
}

func TestScatteredStaysBelowItsCount(t *testing.T) {
	number, seen := Scattered(100, 3), map[uint32]bool{}
	for id := uint32(1); id <= 1000; id++ {
		n, more := number(id)
		if n >= 100 || !more {
			t.Fatalf("number %d, more %v", n, more)
		}
		seen[n] = true
	}
	if len(seen) < 90 {
		t.Fatalf("only %d of 100 numbers in 1000 requests", len(seen))
	}
}

func TestRunFailsOnAnError(t *testing.T) {
	plan := Plan{Address: serve(t, 10, 50), Connections: 2, Window: 2, Talker: getter, Measure: 20 * time.Second}
	if _, err := Run(context.Background(), plan); err == nil {
		t.Fatal("an error reply passed")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	plan := Plan{Address: serve(t, 10, -1), Connections: 2, Window: 2, Talker: getter, Measure: 20 * time.Second}
	if _, err := Run(ctx, plan); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
}

func TestReadFrameRefusesAHugeLength(t *testing.T) {
	in, out := net.Pipe()
	go func() { _, _ = out.Write([]byte{0xff, 0xff, 0xff, 0xff}); out.Close() }()
	if _, err := ReadFrame(in, nil); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("error %v", err)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.observe(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		if got := h.quantile(q); got < want || got > want*9/8 {
			t.Errorf("quantile %v is %v, want %v to %v", q, got, want, want*9/8)
		}
	}
	for v := uint64(1); v < 1<<40; v = v*5/4 + 1 {
		if edge := edgeOf(bucketOf(v)); edge < v || edge > v+v/8+1 {
			t.Fatalf("edge of %d is %d", v, edge)
		}
	}
}
