package replica

import (
	"testing"
	"time"
)

// Whatever is asked for, no more is copied than the rate and one second's bytes, and one answer; and in the end as much as the
// rate lets through.
func TestThrottle(t *testing.T) {
	const rate, answer = 1000, 700
	var throttle Throttle
	total := 0
	for now := time.Duration(0); now <= time.Minute; now += 7 * time.Millisecond {
		if throttle.Left(now, rate) > 0 {
			throttle.Took(now, rate, answer)
			total += answer
		}
		if most := int(now.Seconds()*rate) + rate + answer; total > most {
			t.Fatalf("%d bytes after %v", total, now)
		}
	}
	if total < 60*rate {
		t.Errorf("only %d bytes in a minute", total)
	}
	if throttle.Left(time.Hour, rate) != rate || throttle.Left(time.Hour, Unthrottled) < 1<<30 || throttle.Left(time.Hour, 0) > 0 {
		t.Error("after an hour")
	}
	throttle.Took(time.Hour, Unthrottled, 1<<30)
	if throttle.Left(time.Hour, rate) != rate {
		t.Error("what no rate bounds counts")
	}
}
