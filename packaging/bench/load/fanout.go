package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"cairn/packaging/bench/frames"
)

// FanOut is a znode that many sessions watch: each round changes it once, every watcher gets its event and watches again.
type FanOut struct {
	Addresses []string // the watchers take these in turn
	Path      string   // of a znode that exists
	Data      []byte   // that it is set to
	Watchers  int
	Rounds    int              // measured; one more comes before them
	Mark      func(begin bool) // if not nil, called when the measurement begins and when it ends
}

// FanOutResult is what the measured rounds have seen.
type FanOutResult struct {
	Events  uint64
	Elapsed time.Duration // from the first change to the last watch set again
	// EventP50 and EventP99 are from the sending of a change to each event, LastP50 and LastMax to the last one of a round.
	EventP50, EventP99, LastP50, LastMax time.Duration
}

// watcher is one session that watches.
type watcher struct {
	net   net.Conn
	in    *bufio.Reader
	frame []byte
	ask   []byte
}

// fanRound is what one watcher says of one round.
type fanRound struct {
	event time.Time // when it came; zero for the first watch
	err   error
}

// RunFanOut runs the rounds, one after the other. ctx ends it early with an error.
func RunFanOut(ctx context.Context, plan FanOut) (FanOutResult, error) {
	var result FanOutResult
	heard := make(chan fanRound, 2*plan.Watchers) // of a round, and of what ends it early
	watchers := make([]*watcher, 0, plan.Watchers)
	var group sync.WaitGroup
	defer func() {
		for _, w := range watchers {
			w.net.Close()
		}
		group.Wait()
	}()
	for i := range plan.Watchers {
		w, err := newWatcher(ctx, i, &plan)
		if err != nil {
			return result, fmt.Errorf("watcher %d: %w", i, err)
		}
		watchers = append(watchers, w)
		group.Go(func() { w.run(heard, plan.Rounds+1) })
	}
	setter, err := newWatcher(ctx, 0, &plan)
	if err != nil {
		return result, fmt.Errorf("the session that writes: %w", err)
	}
	defer setter.net.Close()
	if _, err := gather(ctx, heard, plan.Watchers, time.Time{}, nil); err != nil {
		return result, err
	}
	var events, lasts histogram
	var begun time.Time
	for round := range plan.Rounds + 1 {
		if round == 1 {
			begun = time.Now()
			markTo(plan.Mark, true)
		}
		sent := time.Now()
		if err := setter.set(frames.SetData(plan.Path, plan.Data).Append(nil, uint32(round+1))); err != nil {
			return result, fmt.Errorf("round %d: %w", round, err)
		}
		into := &events
		if round == 0 {
			into = nil
		}
		last, err := gather(ctx, heard, plan.Watchers, sent, into)
		if err != nil {
			return result, fmt.Errorf("round %d: %w", round, err)
		}
		if round > 0 {
			lasts.observe(last)
			result.LastMax = max(result.LastMax, last)
		}
	}
	result.Elapsed = time.Since(begun)
	markTo(plan.Mark, false)
	result.Events = events.total
	result.EventP50, result.EventP99, result.LastP50 = events.quantile(0.50), events.quantile(0.99), lasts.quantile(0.50)
	return result, nil
}

func markTo(mark func(bool), begin bool) {
	if mark != nil {
		mark(begin)
	}
}

// gather waits until every watcher has its event and watches again, and returns the time from sent to the last event.
func gather(ctx context.Context, heard <-chan fanRound, watchers int, sent time.Time, into *histogram) (time.Duration, error) {
	var last time.Duration
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for n := range watchers {
		select {
		case r := <-heard:
			if r.err != nil {
				return 0, r.err
			}
			took := r.event.Sub(sent)
			if last = max(last, took); into != nil {
				into.observe(took)
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-timeout.C:
			return 0, fmt.Errorf("%d of %d watchers were told within %v", n, watchers, patience)
		}
	}
	return last, nil
}

func newWatcher(ctx context.Context, i int, plan *FanOut) (*watcher, error) {
	nc, err := dialFrom(ctx, i, plan.Addresses[i%len(plan.Addresses)])
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	if err := openSession(nc); err != nil {
		nc.Close()
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	return &watcher{net: nc, in: bufio.NewReaderSize(nc, 1<<10), ask: frames.GetDataWatch(plan.Path).Append(nil, 1)}, nil
}

// run watches, and watches again after each event, and says so each time.
func (w *watcher) run(heard chan<- fanRound, rounds int) {
	err := w.watch()
	heard <- fanRound{err: err}
	for n := 0; n < rounds && err == nil; n++ {
		var at time.Time
		if err = w.read(true); err == nil {
			at = time.Now()
			err = w.watch()
		}
		heard <- fanRound{event: at, err: err}
	}
}

// watch asks for the znode and leaves a watch.
func (w *watcher) watch() error {
	if _, err := w.net.Write(w.ask); err != nil {
		return err
	}
	return w.read(false)
}

// set writes a request and reads its reply.
func (w *watcher) set(request []byte) error {
	_ = w.net.SetDeadline(time.Now().Add(patience))
	if _, err := w.net.Write(request); err != nil {
		return err
	}
	return w.read(false)
}

// read reads one frame, an event or a reply.
func (w *watcher) read(event bool) (err error) {
	if w.frame, err = ReadFrame(w.in, w.frame); err != nil {
		return err
	}
	if frames.IsEvent(w.frame) != event {
		return errors.New("an event and a reply have changed places")
	}
	return frames.ReplyError(w.frame)
}
