package replica

import (
	"testing"
	"time"
)

// However often it is asked, no five seconds get more than the rate, unless a single answer is longer than that allows for; and who
// asks when it is told to gets nearly all that the rate lets through.
func TestThrottle(t *testing.T) {
	const window = 5 * time.Second
	for _, c := range []struct {
		rate   int64
		answer int
		polls  time.Duration // 0: it asks when it is told to
	}{{1000, 700, 7 * time.Millisecond}, {1000, 700, 0}, {50_000_000, 1 << 20, 0}, {50_000_000, 1 << 20, 3 * time.Millisecond}, {10, 700, 0}} {
		var throttle Throttle
		type piece struct {
			at    time.Duration
			bytes int
		}
		var pieces []piece
		total, inWindow, asked := int64(0), 0, 0 // a minute's bytes are more than 32 bits hold
		for now := time.Duration(0); now <= time.Minute; asked++ {
			left, wait := throttle.Left(now, c.rate)
			if left > 0 {
				n := min(c.answer, max(left, 700)) // a batch is not cut
				throttle.Took(now, c.rate, n)
				pieces = append(pieces, piece{now, n})
				total, inWindow = total+int64(n), inWindow+n
				wait = time.Microsecond
			} else if wait <= 0 || wait > throttleWaitMax {
				t.Fatalf("rate %d: nothing is left, and one is to wait for %v", c.rate, wait)
			}
			for len(pieces) > 0 && pieces[0].at <= now-window {
				inWindow, pieces = inWindow-pieces[0].bytes, pieces[1:]
			}
			if most := max(float64(c.rate)*window.Seconds(), float64(c.rate)*(throttlePart*window.Seconds()+throttleSaves.Seconds())+float64(c.answer)); float64(inWindow) > most {
				t.Fatalf("rate %d: %d bytes in the five seconds before %v, at most %.0f", c.rate, inWindow, now, most)
			}
			if c.polls > 0 {
				wait = c.polls
			}
			now += wait
		}
		if float64(total) < 0.97*60*float64(c.rate) {
			t.Errorf("rate %d: only %d bytes in a minute", c.rate, total)
		}
		if c.polls == 0 && c.rate > 1000 && asked > 60*200 {
			t.Errorf("rate %d: it was asked %d times in a minute", c.rate, asked)
		}
	}
	var throttle Throttle
	const rate = 1000
	if left, _ := throttle.Left(time.Hour, rate); left != rate/20 {
		t.Errorf("%d bytes after an hour", left)
	}
	if left, _ := throttle.Left(time.Hour, Unthrottled); left < 1<<30 {
		t.Errorf("%d bytes without a rate", left)
	}
	if left, wait := throttle.Left(time.Hour, 0); left > 0 || wait <= 0 {
		t.Errorf("rate 0: %d bytes, wait %v", left, wait)
	}
	throttle.Took(time.Hour, Unthrottled, 1<<30)
	if left, _ := throttle.Left(time.Hour, rate); left != rate/20 {
		t.Error("what no rate bounds counts")
	}
}
