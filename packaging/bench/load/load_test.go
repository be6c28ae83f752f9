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
func serve(t *testing.T, data, good int) string {
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
