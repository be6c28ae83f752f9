package sim

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// admin makes the topics, deletes records of some, and moves their partitions about where there are more boxes than replicas.
type admin struct {
	*kafkaClient
	ready bool // the topics are there
	calm  bool // nothing is moved any more
	moves int
}

func newAdmin(w *world) *admin {
	a := &admin{kafkaClient: newKafkaClient(w, "admin", 1)}
	a.again(a.create)
	return a
}

func (a *admin) create() {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 3000
	for _, name := range a.w.kafka.topics {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 2, -1
		for key, value := range map[string]string{"segment.ms": "2000", "index.interval.bytes": "200"} {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = key, kmsg.StringPtr(value)
			t.Configs = append(t.Configs, c)
		}
		slices.SortFunc(t.Configs, func(x, y kmsg.CreateTopicsRequestTopicConfig) int { return len(x.Name) - len(y.Name) })
		req.Topics = append(req.Topics, t)
	}
	a.ask(a.pick(), req, 7, func(resp kmsg.Response, err error) {
		if err == nil {
			made := 0
			for _, t := range resp.(*kmsg.CreateTopicsResponse).Topics {
				if t.ErrorCode == 0 || t.ErrorCode == kerr.TopicAlreadyExists.Code {
					made++
				} else {
					a.w.trace("admin: %s is not created: %v", t.Topic, kerr.ErrorForCode(t.ErrorCode))
				}
			}
			if made == len(a.w.kafka.topics) {
				a.ready = true
				a.later(a.deleteRecords)
				if len(a.w.ids) > 3 {
					a.later(a.move)
				}
				return
			}
		}
		a.again(a.create)
	})
}

// later does something now and then, until it shall be calm.
func (a *admin) later(what func()) {
	a.w.sched.After(200*time.Millisecond+time.Duration(a.w.rand().Int64N(int64(2*time.Second))), a.name, func() {
		if !a.w.over && !a.calm {
			what()
			a.later(what)
		}
	})
}

// move asks for other replicas of a partition, or for what it asked before not to be.
func (a *admin) move() {
	r := a.w.rand()
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.TimeoutMillis = 3000
	p := a.w.kafka.partitions[r.IntN(len(a.w.kafka.partitions))]
	t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	t.Topic = p.topic
	part := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	part.Partition = p.partition
	if r.IntN(5) > 0 {
		for _, i := range r.Perm(len(a.w.ids))[:3] {
			part.Replicas = append(part.Replicas, int32(a.w.ids[i]))
		}
	}
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	a.ask(a.pick(), req, 0, func(resp kmsg.Response, err error) {
		if err == nil && resp.(*kmsg.AlterPartitionAssignmentsResponse).ErrorCode == 0 {
			a.moves++
		}
	})
}

// deleteRecords deletes what lies before some offset that was acknowledged or read.
func (a *admin) deleteRecords() {
	k, r := a.w.kafka, a.w.rand()
	p := k.deletes[r.IntN(len(k.deletes))]
	t := k.truth[p]
	box, ok := a.leader(p)
	if !ok || t.deleted >= t.end() {
		return
	}
	to := t.deleted + 1 + r.Int64N(t.end()-t.deleted)
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 2000
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = p.topic
	part := kmsg.NewDeleteRecordsRequestTopicPartition()
	part.Partition, part.Offset = p.partition, to
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	t.deleting = max(t.deleting, to)
	a.ask(box, req, 2, func(resp kmsg.Response, err error) {
		if err != nil {
			a.refresh()
			return
		}
		got := resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
		if got.ErrorCode != 0 {
			a.w.trace("admin: %v before %d: %v", p, to, kerr.ErrorForCode(got.ErrorCode))
			a.refresh()
			return
		}
		if got.LowWatermark < to {
			a.w.failf("%v: records before %d are deleted at box %d, and the log begins at %d", p, to, box, got.LowWatermark)
		}
		a.w.trace("%v is deleted before %d", p, to)
		k.deletions++
		t.deleted = max(t.deleted, to)
	})
}
