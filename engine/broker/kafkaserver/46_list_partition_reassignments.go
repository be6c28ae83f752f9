package kafkaserver

import (
	"sync"
	"time"

	"cairn/engine/broker/catalog"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments (46), version 0: the reassignments under way, of all partitions if the list is null.
// kafka-topics --describe asks for them before it prints anything.
//
// Kafka asks the controller; here every box answers once its catalog has come to where the ensemble is. Whoever has just
// begun a reassignment and asks another box how it stands would otherwise hear that there is none, and take it for done. Without a
// leader of the ensemble the answer is what this box knows: a cluster in trouble is one that people look at.

// recentWait is how long the catalog may take to be recent.
const recentWait = 2 * time.Second

func (s *Server) handle46ListPartitionReassignments(r *request) {
	if s.deps.Recent == nil {
		s.answerReassignments(r)
		return
	}
	var once sync.Once
	answer := func() { once.Do(func() { s.answerReassignments(r) }) }
	late := time.AfterFunc(recentWait, answer)
	s.deps.Recent(func(error) {
		late.Stop()
		answer()
	})
}

func (s *Server) answerReassignments(r *request) {
	req := r.body.(*kmsg.ListPartitionReassignmentsRequest)
	snap := s.deps.Catalog.Current()
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	if req.Topics == nil {
		for t := range snap.Topics() {
			all := make([]int32, len(t.Partitions))
			for i := range all {
				all[i] = int32(i)
			}
			listReassignments(resp, visible(t), all)
		}
	}
	for i := range req.Topics {
		listReassignments(resp, visible(snap.Topic(req.Topics[i].Topic)), req.Topics[i].Partitions)
	}
	r.respond(resp)
}

func listReassignments(resp *kmsg.ListPartitionReassignmentsResponse, t *catalog.Topic, partitions []int32) {
	if t == nil {
		return
	}
	out := kmsg.NewListPartitionReassignmentsResponseTopic()
	out.Topic = t.Name
	for _, i := range partitions {
		p := t.Partition(i)
		if p == nil || !p.Reassigning() {
			continue
		}
		part := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
		part.Partition, part.Replicas, part.AddingReplicas, part.RemovingReplicas = i, p.Replicas, p.Adding, p.Removing
		out.Partitions = append(out.Partitions, part)
	}
	if len(out.Partitions) > 0 {
		resp.Topics = append(resp.Topics, out)
	}
}
