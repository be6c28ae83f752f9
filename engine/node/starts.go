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
	"cairn/engine/broker/replica"
	"cairn/engine/broker/seglog"
	"cairn/engine/broker/topics"
)

const (
	// startsMax is how many partitions one question names: it must fit a question's bound.
	startsMax = 400
	// startsWait is how long the asked box waits for its replicas to follow: less than replyTime.
	startsWait = 2 * time.Second
	// startsAgain is the pause before a box that did not answer is asked again.
	startsAgain = 200 * time.Millisecond
)

// startAsked is a partition of the question askStarts: whether nothing before Offset is left.
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
	late []bool
	left int // boxes
}

// awaitStarts is kafkaserver.Deps.AwaitStarts: it asks every box that has a replica and is there whether it has followed. A box that
// goes meanwhile is not waited for, as in Kafka, nor is a log directory that has failed.
func (b *broker) awaitStarts(starts []kafkaserver.LogStart, wait time.Duration, done func(late []bool)) {
	w := &startWait{
		b: b, asked: make([]startAsked, len(starts)), until: b.n.deps.Clock.Now().Mono + wait, done: done, late: make([]bool, len(starts)), left: 1,
	}
	snapshot, boxes := b.catalog.Current(), map[int32][]int{}
	for i, one := range starts {
		t := snapshot.Topic(one.Topic)
		if t == nil || t.Partition(one.Partition) == nil {
			continue // it has been deleted as a whole
		}
		w.asked[i] = startAsked{t.ID, one.Partition, one.Offset}
		for _, id := range t.Partition(one.Partition).Replicas {
			if id != b.n.id.box {
				boxes[id] = append(boxes[id], i)
			}
		}
	}
	w.left += len(boxes)
	for _, id := range slices.Sorted(maps.Keys(boxes)) {
		w.ask(id, boxes[id])
	}
	w.one(nil)
}

// ask asks a box about the next of its partitions.
func (w *startWait) ask(box int32, list []int) {
	snapshot := w.b.catalog.Current()
	list = slices.DeleteFunc(list, func(i int) bool {
		t := snapshot.TopicByID(w.asked[i].Topic)
		if t == nil {
			return true
		}
		p := t.Partition(w.asked[i].Partition)
		return p == nil || !slices.Contains(p.Replicas, box) || snapshot.Broker(box) == nil || !snapshot.ReplicaOnline(p, box)
	})
	if len(list) == 0 || w.b.n.deps.Clock.Now().Mono >= w.until {
		w.one(list)
		return
	}
	now, later := list[:min(len(list), startsMax)], list[min(len(list), startsMax):]
	q := question{What: askStarts}
	for _, i := range now {
		q.Starts = append(q.Starts, w.asked[i])
	}
	w.b.n.boxes.ask(box, q, func(r reply, err error) {
		again := slices.Clone(later)
		for j, i := range now {
			if err != nil || slices.Contains(r.Late, j) {
				again = append(again, i)
			}
		}
		if err == nil {
			w.ask(box, again)
			return
		}
		time.AfterFunc(startsAgain, func() { w.ask(box, again) })
	})
}

// one ends what is asked of one box; late is what it has not followed in.
func (w *startWait) one(late []int) {
	w.mu.Lock()
	for _, i := range late {
		w.late[i] = true
	}
	w.left--
	last := w.left == 0
	w.mu.Unlock()
	if last {
		w.done(w.late)
	}
}

// answerStarts says which of the partitions have not followed in startsWait, by their place in the question.
func (b *broker) answerStarts(asked []startAsked, done func(reply)) {
	if len(asked) > startsMax {
		done(reply{Code: kerr.InvalidRequest.Code})
		return
	}
	b.n.boxes.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startsWait)
		defer cancel()
		late := make([]bool, len(asked))
		followed := make([]*replica.Replica, len(asked))
		for i, one := range asked {
			followed[i], late[i] = b.followsStart(ctx, one)
		}
		saved := make(chan int, len(asked)) // those that are; each says something
		waits := 0
		for i, r := range followed {
			if r == nil {
				continue
			}
			waits++
			r.SaveStart(ctx, func(err error) {
				if err != nil {
					i = -1
				}
				saved <- i
			})
			late[i] = true
		}
		for range waits {
			select {
			case i := <-saved:
				if i >= 0 {
					late[i] = false
				}
				continue
			case <-ctx.Done():
			}
			break
		}
		var r reply
		for i, is := range late {
			if is {
				r.Late = append(r.Late, i)
			}
		}
		done(r)
	})
}

// followsStart waits until nothing before the offset is left in this box's replica. There may be none, and then nothing is left.
func (b *broker) followsStart(ctx context.Context, one startAsked) (r *replica.Replica, late bool) {
	t := b.catalog.Current().TopicByID(one.Topic)
	if t == nil {
		return nil, false
	}
	r, err := b.topics.Lookup(t.Name, one.Partition)
	switch {
	case errors.Is(err, topics.ErrUnknown), err == nil && r.TopicID() != seglog.ID(one.Topic):
		return nil, false
	case err != nil:
		return nil, true
	}
	if err := r.AwaitStart(ctx, one.Offset); err != nil {
		return nil, true
	}
	return r, false
}
