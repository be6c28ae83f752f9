package kafkaserver

import (
	"cairn/engine/broker/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments (45), versions 0 and 1: other replicas for partitions; null replicas cancel.
//
// It is answered when the reassignment has begun, and not when it is done: tools ask for that with 46. Replicas that are
// added copy the partition and join the ISR; when all that are to stay are in it, the others go. From version 1 on a request
// can forbid a change of the replication factor (KIP-860).

func (s *Server) handle45AlterPartitionReassignments(r *request) {
	req := r.body.(*kmsg.AlterPartitionAssignmentsRequest)
	ask := controller.AlterReassignments{KeepFactor: r.version >= 1 && !req.AllowReplicationFactorChange, Timeout: millis(req.TimeoutMillis)}
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			ask.Partitions = append(ask.Partitions, controller.Reassignment{
				TopicPartition: controller.TopicPartition{Topic: req.Topics[i].Topic, Partition: p.Partition}, Replicas: p.Replicas,
			})
		}
	}
	allow := req.AllowReplicationFactorChange
	s.deps.Controller.AlterReassignments(ask, func(results []controller.PartitionResult) {
		resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
		resp.AllowReplicationFactorChange = allow
		for _, p := range results {
			if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != p.Topic {
				t := kmsg.NewAlterPartitionAssignmentsResponseTopic()
				t.Topic = p.Topic
				resp.Topics = append(resp.Topics, t)
			}
			out := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			out.Partition = p.Partition
			out.ErrorCode, out.ErrorMessage = refusal(p.Err)
			t := &resp.Topics[len(resp.Topics)-1]
			t.Partitions = append(t.Partitions, out)
		}
		r.respond(resp)
	})
}
