package main

import (
	"os"
	"path/filepath"
	"time"
)

// sampleTime is the time between two samples, windowTime the stretch that the highest rate is of.
const (
	sampleTime = 50 * time.Millisecond
	windowTime = 5 * time.Second
)

// arrival is how many bytes of a topic's logs a box had over time. One goroutine looks until end; then it may be read.
type arrival struct {
	all    []arrived
	failed error
	stop   chan struct{}
	over   chan struct{}
}

type arrived struct {
	at    time.Time
	bytes int64
}

// watchArrival begins to look at the segments in a box's data directory.
func watchArrival(data, topic string) *arrival {
	a := &arrival{stop: make(chan struct{}), over: make(chan struct{})}
	go func() {
		defer close(a.over)
		ticker := time.NewTicker(sampleTime)
		defer ticker.Stop()
		for {
			n, err := logBytes(data, topic)
			if err != nil {
				a.failed = err
				return
			}
			a.all = append(a.all, arrived{time.Now(), n})
			select {
			case <-a.stop:
				return
			case <-ticker.C:
			}
		}
	}()
	return a
}

// end looks no more, after a last look.
func (a *arrival) end() error {
	close(a.stop)
	<-a.over
	return a.failed
}

// logBytes are the bytes of a topic's logs in a data directory.
func logBytes(data, topic string) (sum int64, err error) {
	names, err := filepath.Glob(filepath.Join(data, "topics", topic+"-*", "*.log"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if os.IsNotExist(err) { // rolled or deleted meanwhile
			continue
		} else if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}

// span is the part of the samples from the last without anything new before the first bytes to the first with all of them.
func (a *arrival) span() (begin, end int) {
	last := len(a.all) - 1
	for begin < last && a.all[begin+1].bytes == a.all[0].bytes {
		begin++
	}
	for end = last; end > begin && a.all[end-1].bytes == a.all[last].bytes; end-- {
	}
	return begin, end
}

// mean is the bytes a second from the first to the last byte.
func (a *arrival) mean() float64 {
	begin, end := a.span()
	return a.rate(begin, end)
}

// took is the time from the first to the last byte.
func (a *arrival) took() time.Duration {
	begin, end := a.span()
	return a.all[end].at.Sub(a.all[begin].at)
}

func (a *arrival) rate(from, to int) float64 {
	took := a.all[to].at.Sub(a.all[from].at)
	if took <= 0 {
		return 0
	}
	return float64(a.all[to].bytes-a.all[from].bytes) / took.Seconds()
}

// highest is the highest rate over any stretch of at least so long, in bytes a second; over all of it where that is shorter.
func (a *arrival) highest(over time.Duration) (rate float64) {
	begin, end := a.span()
	from := begin
	for to := begin; to <= end; to++ {
		for from+1 < to && a.all[to].at.Sub(a.all[from+1].at) >= over {
			from++
		}
		if a.all[to].at.Sub(a.all[from].at) >= over {
			rate = max(rate, a.rate(from, to))
		}
	}
	if rate == 0 {
		return a.mean()
	}
	return rate
}
