package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/kafkaserver"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/topics"
)

const (
	// startsMax is how many partitions one question names: it must fit a question's bound.
	startsMax = 400
	// startsWait is how long the asked box waits at most for its replicas to follow: less than replyTime.
	startsWait = 2 * time.Second
	// startsAgain is the pause before a box is asked again.
	startsAgain = 100 * time.Millisecond
)

// startsAsked is the question askStarts: whether nothing before some offsets is left.
type startsAsked struct {
	Parts []startAsked
	// WaitMs is how long to wait for it, in milliseconds.
	WaitMs int64
}

// startAsked is one partition of it.
type startAsked struct {
	Topic     catalog.UUID
	Partition int32
	Offset    int64
}

// startWait is a deletion that has been made here and waits for the boxes that follow.
type startWait struct {
	b     *broker
	asked []startAsked
	until time.Duration
	done  func(late []bool)

	mu   sync.Mutex // protects what follows; nothing is called while it is held
	left []int      // of each partition: boxes that are waited for
	open int        // the sum
	over bool
}

// awaitStarts is kafkaserver.Deps.AwaitStarts: it asks every box that has a replica whether it has followed. Who is away, or whose log
// directory has failed, is waited for where the partition may be led from there when it is back, or the records would be back with it.
// (Kafka's DelayedDeleteRecords waits for nobody who is away.) Who may lead is read from a catalog that is not older than the deletion. It
// ends when the wait is over, and with ctx and the box.
func (b *broker) awaitStarts(ctx context.Context, starts []kafkaserver.LogStart, wait time.Duration, done func(late []bool)) {
	w := &startWait{b: b, asked: make([]startAsked, len(starts)), until: b.n.deps.Clock.Now().Mono + wait, left: make([]int, len(starts))}
	snapshot := b.catalog.Current()
	for i, one := range starts {
		if t := snapshot.Topic(one.Topic); t != nil {
			if p := t.Partition(one.Partition); p != nil && len(p.Replicas) > 1 {
				w.left[i]++ // for the catalog
				w.open++
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	stopped := context.AfterFunc(b.running, cancel)
	w.done = func(late []bool) {
		cancel()
		stopped()
		done(late)
	}
	context.AfterFunc(ctx, w.end) // at once where the wait is over: all that end needs is there
	if w.confirm(nil); !w.ended() {
		w.lookUp(starts)
	}
}

// lookUp finds in a recent catalog who has replicas, and asks them.
func (w *startWait) lookUp(starts []kafkaserver.LogStart) {
	w.b.recent(func(err error) {
		switch {
		case w.ended():
		case err != nil:
			time.AfterFunc(startsAgain, func() { w.lookUp(starts) })
		default:
			w.b.n.boxes.running.Go(func() { w.askAll(starts) })
		}
	})
}

func (w *startWait) askAll(starts []kafkaserver.LogStart) {
	snapshot, boxes, all := w.b.catalog.Current(), map[int32][]int{}, []int(nil)
	w.mu.Lock()
	for i, one := range starts {
		if w.left[i] == 0 {
			continue // it has no other replica
		}
		all = append(all, i)
		t := snapshot.Topic(one.Topic)
		if t == nil || t.Partition(one.Partition) == nil {
			continue // it has been deleted as a whole
		}
		w.asked[i] = startAsked{t.ID, one.Partition, one.Offset}
		for _, id := range t.Partition(one.Partition).Replicas {
			if id != w.b.n.id.box {
				boxes[id] = append(boxes[id], i)
				w.left[i]++
				w.open++
			}
		}
	}
	w.mu.Unlock()
	w.confirm(all) // for the catalog
	for _, id := range slices.Sorted(maps.Keys(boxes)) {
		w.ask(id, boxes[id])
	}
}

// ask asks a box about the next of its partitions, until it has followed in all.
func (w *startWait) ask(box int32, list []int) {
	snapshot := w.b.catalog.Current()
	var here, gone []int
	for _, i := range list {
		t := snapshot.TopicByID(w.asked[i].Topic)
		var p *catalog.Partition
		if t != nil {
			p = t.Partition(w.asked[i].Partition)
		}
		if !p.Holds(box) || !followsOrLeads(snapshot, p, box) {
			gone = append(gone, i)
		} else {
			here = append(here, i)
		}
	}
	w.confirm(gone)
	if len(here) == 0 || w.ended() {
		return
	}
	now, later := here[:min(len(here), startsMax)], here[min(len(here), startsMax):]
	wait := min(max(w.until-w.b.n.deps.Clock.Now().Mono, 0), startsWait)
	q := question{What: askStarts, Starts: &startsAsked{WaitMs: wait.Milliseconds()}}
	for _, i := range now {
		q.Starts.Parts = append(q.Starts.Parts, w.asked[i])
	}
	w.b.n.boxes.ask(box, q, func(r reply, err error) {
		var followed []int
		again := slices.Clone(later)
		for j, i := range now {
			switch {
			case errors.Is(err, kerr.UnsupportedVersion): // an older build, which follows as well and cannot say when
				followed = append(followed, i)
			case err != nil || slices.Contains(r.Late, j):
				again = append(again, i)
			default:
				followed = append(followed, i)
			}
		}
		w.confirm(followed)
		switch {
		case len(again) == 0 || w.ended():
		case len(again) == len(later):
			w.ask(box, again)
		default:
			time.AfterFunc(startsAgain, func() { w.ask(box, again) })
		}
	})
}

// followsOrLeads reports whether a box has a replica that follows, or could be elected.
func followsOrLeads(s *catalog.Snapshot, p *catalog.Partition, box int32) bool {
	return p.CountsOn(box) || s.Broker(box) != nil && s.ReplicaOnline(p, box)
}

// confirm notes that one box has followed in some partitions, or is not waited for there.
func (w *startWait) confirm(list []int) {
	w.mu.Lock()
	for _, i := range list {
		w.left[i]--
	}
	w.open -= len(list)
	last := w.open == 0
	w.mu.Unlock()
	if last {
		w.end()
	}
}

func (w *startWait) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// end answers, once.
func (w *startWait) end() {
	w.mu.Lock()
	again := w.over
	w.over = true
	late := make([]bool, len(w.left))
	for i, n := range w.left {
		late[i] = n > 0
	}
	w.mu.Unlock()
	if !again {
		w.done(late)
	}
}

// answerStarts says which of the partitions have not followed in the time that is given, by their place in the question. A box that is not
// registered says that none has: before its logs are open it does not know what it has.
func (b *broker) answerStarts(q *startsAsked, done func(reply)) {
	if q == nil || len(q.Parts) > startsMax {
		done(reply{Code: kerr.InvalidRequest.Code})
		return
	}
	b.n.boxes.running.Go(func() {
		ctx, cancel := context.WithTimeout(b.running, min(time.Duration(max(q.WaitMs, 0))*time.Millisecond, startsWait))
		defer cancel()
		followed := make(chan int, len(q.Parts)) // each says something once at most
		late, waits := map[int]bool{}, 0
		for i, one := range q.Parts {
			if b.brokerEpoch.Load() == 0 {
				late[i] = true
				continue
			}
			t := b.catalog.Current().TopicByID(one.Topic)
			if t == nil {
				continue // nothing is left
			}
			r, err := b.topics.Lookup(t.Name, one.Partition)
			switch {
			case errors.Is(err, topics.ErrUnknown) && !t.Partition(one.Partition).Holds(b.n.id.box), err == nil && r.TopicID() != seglog.ID(one.Topic):
				continue // no replica is here
			case err != nil: // it fails, or its log is not open yet, or not any more: this box stops
				late[i] = true
				continue
			}
			late[i] = true
			waits++
			r.AwaitStart(ctx, one.Offset, func(err error) {
				at := i
				if err != nil {
					at = -1
				}
				followed <- at
			})
		}
		for over := false; waits > 0 && !over; {
			select {
			case i := <-followed:
				waits--
				delete(late, i)
			case <-ctx.Done():
				over = true
			}
		}
		done(reply{Late: slices.Sorted(maps.Keys(late))})
	})
}
