package node

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/catalog"
	"cairn/engine/broker/controller"
	"cairn/engine/broker/fetcher"
	"cairn/engine/broker/partition"
	"cairn/engine/broker/remote"
	"cairn/engine/broker/replica"
)

// leaders are the fetcher's: questions by Kafka's protocol, vouchers by the link.
type leaders struct {
	*remote.Brokers
	*boxes
}

// openFetcher opens what follows other boxes, where there are others.
func (b *broker) openFetcher() error {
	n := b.n
	if n.boxes == nil {
		return nil
	}
	r := remote.New(remote.Config{FrameBytesMax: n.cfg.Limits.Kafka.FrameBytesMax}, remote.Deps{Open: n.boxes.open})
	n.closes("connections to other brokers", func() error { r.Close(); return nil })
	b.fetcher = fetcher.New(
		fetcher.Config{BrokerID: n.id.box},
		fetcher.Deps{Runtime: n.deps.Runtime, Observer: n.deps.Observer, Leaders: leaders{r, n.boxes}, Throttled: b.throttled})
	n.closes("fetcher", func() error { b.fetcher.Close(); return nil })
	return nil
}

// replicaDeps is the outside of the shards.
func (b *broker) replicaDeps() replica.Deps {
	deps := replica.Deps{Runtime: b.n.deps.Runtime, Observer: b.n.deps.Observer, Moved: func() { b.topics.Moved() },
		Failed: func(r *replica.Replica) { b.topics.Failed(r) }}
	if b.fetcher != nil {
		deps.Vouched, deps.Propose = b.fetcher.Vouched, b.proposeInSync
	}
	return deps
}

// throttled is the fetcher's: how fast a partition is copied at most that this box is not in sync with.
func (b *broker) throttled(topic string, partition int32) (rate int64, ok bool) {
	s := b.catalog.Current()
	t := s.Topic(topic)
	if t == nil || !t.Settings.FollowerThrottled.Has(partition, b.n.id.box) {
		return 0, false
	}
	return s.Settings.Int("follower.replication.throttled.rate"), true
}

// followPartition is told by the topics room whom a partition follows.
func (b *broker) followPartition(r *replica.Replica, leader int32, inSync bool) {
	if b.fetcher != nil {
		b.fetcher.Follow(r, leader, inSync)
	}
}

// watchRegistration notes under which epoch the catalog shows this start of the box, and registers it again when its lease
// has ended though it lives.
func (b *broker) watchRegistration(s *catalog.Snapshot) {
	epoch := int64(0)
	if r := s.Broker(b.n.id.box); r != nil && r.Incarnation == b.incarnation {
		epoch = r.Epoch
	}
	before := b.brokerEpoch.Swap(epoch)
	if before == epoch {
		return
	}
	if b.fetcher != nil {
		b.fetcher.Registered(epoch)
	}
	if before != 0 && epoch == 0 && b.fetcher != nil && !b.stopping.Load() {
		b.n.deps.Observer.Log.Warn("this broker's registration has ended: it was not heard for too long, and registers again")
		b.register()
	}
}

// proposeAgain is the pause before a change of in-sync replicas whose outcome is not known is asked for again.
const proposeAgain = 500 * time.Millisecond

// proposeInSync asks the controller for other in-sync replicas. Where it is not known what came of it, it is asked again: the
// controller takes it once. What was written comes with the catalog.
func (b *broker) proposeInSync(r *replica.Replica, epoch, partitionEpoch int32, isr []partition.Member, done func(written bool)) {
	id, own := b.n.id.box, b.brokerEpoch.Load()
	change := controller.InSyncChange{
		Topic: catalog.UUID(r.TopicID()), Partition: r.TopicPartition().Partition, LeaderEpoch: epoch, PartitionEpoch: partitionEpoch,
		InSync: []controller.InSyncReplica{{Broker: id, Epoch: own}},
	}
	for _, m := range isr {
		change.InSync = append(change.InSync, controller.InSyncReplica{Broker: m.Broker, Epoch: m.Epoch})
	}
	b.alterInSync(controller.AlterInSync{Broker: id, BrokerEpoch: own, Partitions: []controller.InSyncChange{change}}, func(results []controller.InSyncResult, err error) {
		if err == nil && len(results) == 1 && results[0].Err != nil {
			err = results[0].Err
		}
		switch {
		case err == nil, errors.Is(err, kerr.InvalidUpdateVersion), errors.Is(err, kerr.FencedLeaderEpoch), errors.Is(err, kerr.StaleBrokerEpoch),
			errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
			// the catalog says what is now
		case errors.Is(err, kerr.IneligibleReplica), errors.Is(err, kerr.InvalidRequest):
			done(false)
		default:
			time.AfterFunc(proposeAgain, func() {
				if v := r.View(); v.Err == nil && v.Leader && v.LeaderEpoch == epoch && v.PartitionEpoch == partitionEpoch {
					b.proposeInSync(r, epoch, partitionEpoch, isr, done)
				}
			})
		}
	})
}

// elsewhere reports whether another box is to be asked after this one has answered, and which.
func (b *broker) elsewhere(err error) (box int32, ok bool) {
	box = b.catalog.Current().ControllerID
	return box, b.n.boxes != nil && errors.Is(err, kerr.NotController) && box >= 0 && box != b.n.id.box
}

// ensureTopic is controller.EnsureTopic, on whichever box is the controller.
func (b *broker) ensureTopic(name string, done func(error)) {
	b.controller.EnsureTopic(name, func(err error) {
		if box, ok := b.elsewhere(err); ok {
			b.n.boxes.ask(box, question{What: askEnsure, Name: name}, func(_ reply, err error) { done(err) })
			return
		}
		done(err)
	})
}

// allocateProducerIDs is controller.AllocateProducerIDs, on whichever box is the controller.
func (b *broker) allocateProducerIDs(done func(first int64, count int32, err error)) {
	b.controller.AllocateProducerIDs(func(first int64, count int32, err error) {
		if box, ok := b.elsewhere(err); ok {
			b.n.boxes.ask(box, question{What: askIDs}, func(r reply, err error) { done(r.First, r.Count, err) })
			return
		}
		done(first, count, err)
	})
}

// alterInSync is controller.AlterInSync, on whichever box is the controller.
func (b *broker) alterInSync(req controller.AlterInSync, done func([]controller.InSyncResult, error)) {
	b.controller.AlterInSync(req, func(results []controller.InSyncResult) {
		var err error
		if len(results) > 0 && results[0].Err != nil {
			err = results[0].Err
		}
		box, ok := b.elsewhere(err)
		if !ok {
			done(results, nil)
			return
		}
		b.n.boxes.ask(box, question{What: askInSync, InSync: &req}, func(r reply, err error) {
			results := make([]controller.InSyncResult, len(r.InSync))
			for i, one := range r.InSync {
				results[i] = controller.InSyncResult{Topic: one.Topic, Partition: one.Partition, Err: controller.AsError(errorOf(one.Code, one.Message))}
			}
			done(results, err)
		})
	})
}

// answer answers what another box's broker asks. done is called once at most.
func (b *broker) answer(q question, done func(reply)) {
	switch q.What {
	case askEpochs:
		list := b.epochs()
		if q.After != nil {
			at, there := slices.BinarySearchFunc(list, *q.After, compareEpochs)
			if there {
				at++
			}
			list = list[at:]
		}
		n := min(len(list), epochsMax)
		done(reply{Epochs: list[:n], More: n < len(list)})
	case askDrop:
		b.topics.Dropped(q.Topic, func() { done(reply{}) })
	case askStarts:
		b.answerStarts(q.Starts, done)
	case askEnsure:
		b.controller.EnsureTopic(q.Name, func(err error) {
			var r reply
			r.Code, r.Message = codeOf(err)
			done(r)
		})
	case askIDs:
		b.controller.AllocateProducerIDs(func(first int64, count int32, err error) {
			r := reply{First: first, Count: count}
			r.Code, r.Message = codeOf(err)
			done(r)
		})
	case askInSync:
		if q.InSync == nil {
			done(reply{Code: kerr.InvalidRequest.Code})
			return
		}
		b.controller.AlterInSync(*q.InSync, func(results []controller.InSyncResult) {
			var r reply
			for _, one := range results {
				out := inSyncReply{Topic: one.Topic, Partition: one.Partition}
				if one.Err != nil {
					out.Code, out.Message = one.Err.Kind.Code, one.Err.Message
				}
				r.InSync = append(r.InSync, out)
			}
			done(r)
		})
	case askForward:
		b.answerForward(q.Forward, done)
	case askRebalance:
		b.answerRebalance(q.Rebalance, done)
	case askLeave:
		if q.Leave == nil {
			done(reply{Code: kerr.InvalidRequest.Code})
			return
		}
		b.controller.Leave(*q.Leave, func(led int, err error) {
			r := reply{Count: int32(led)}
			r.Code, r.Message = codeOf(err)
			done(r)
		})
	default:
		done(reply{Code: kerr.UnsupportedVersion.Code, Message: "this broker does not know the question " + q.What})
	}
}

// epochs are the highest leader epochs of this box's logs, in order.
func (b *broker) epochs() []controller.PartitionEpoch {
	var list []controller.PartitionEpoch
	for _, e := range b.topics.Epochs() {
		list = append(list, controller.PartitionEpoch(e))
	}
	slices.SortFunc(list, compareEpochs)
	return list
}

func compareEpochs(x, y controller.PartitionEpoch) int {
	if c := strings.Compare(string(x.Topic[:]), string(y.Topic[:])); c != 0 {
		return c
	}
	return int(x.Partition) - int(y.Partition)
}

// brokers is how the controller asks brokers: this box's at once, others over the link.
type brokers struct{ b *broker }

// HighestEpochs implements controller.Brokers.
func (k brokers) HighestEpochs(id int32, done func([]controller.PartitionEpoch, error)) {
	if id == k.b.n.id.box {
		done(k.b.epochs(), nil)
		return
	}
	if k.b.n.boxes == nil {
		done(nil, errors.New("this box is alone"))
		return
	}
	k.moreEpochs(id, nil, done)
}

// moreEpochs asks for what is behind the last, until nothing is.
func (k brokers) moreEpochs(id int32, list []controller.PartitionEpoch, done func([]controller.PartitionEpoch, error)) {
	q := question{What: askEpochs}
	if len(list) > 0 {
		q.After = &list[len(list)-1]
	}
	k.b.n.boxes.ask(id, q, func(r reply, err error) {
		if list = append(list, r.Epochs...); err == nil && r.More && len(r.Epochs) > 0 && len(list) <= k.b.n.cfg.Limits.Storage.PartitionsMax {
			k.moreEpochs(id, list, done)
			return
		}
		done(list, err)
	})
}

// DropTopic implements controller.Brokers.
func (k brokers) DropTopic(id int32, topic catalog.UUID, done func(error)) {
	switch {
	case id == k.b.n.id.box:
		k.b.topics.Dropped(topic, func() { done(nil) })
	case k.b.n.boxes == nil:
		done(errors.New("this box is alone"))
	default:
		k.b.n.boxes.ask(id, question{What: askDrop, Topic: topic}, func(_ reply, err error) { done(err) })
	}
}
