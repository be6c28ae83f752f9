package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// AlterReplicaLogDirs (34), versions 1 and 2: the log directory that a replica of this box is to be in. Kafka's reassignment tool
// says it for each replica of a plan that names directories, as those that it prints do. A replica that is there already is no
// error; where it is to come to this box and is not here yet, REPLICA_NOT_AVAILABLE has the tool ask again.
//
// Not done: a move from one log directory of a box to another, KAFKA_STORAGE_ERROR.

func (s *Server) handle34AlterReplicaLogDirs(r *request) {
	req := r.body.(*kmsg.AlterReplicaLogDirsRequest)
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	where := map[partitionKey]string{} // the directory of each replica
	known := map[string]LogDir{}
	for _, d := range s.deps.LogDirs.Describe() {
		known[d.Path] = d
		for _, rep := range d.Replicas {
			where[partitionKey{topic: rep.Topic, partition: rep.Partition}] = d.Path
		}
	}
	places := map[string]int{} // of topics in the answer
	for i := range req.Dirs {
		dir, ok := known[req.Dirs[i].Dir]
		for j := range req.Dirs[i].Topics {
			asked := &req.Dirs[i].Topics[j]
			at, there := places[asked.Topic]
			if !there {
				t := kmsg.NewAlterReplicaLogDirsResponseTopic()
				t.Topic = asked.Topic
				at = len(resp.Topics)
				places[asked.Topic], resp.Topics = at, append(resp.Topics, t)
			}
			for _, p := range asked.Partitions {
				out := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				out.Partition = p
				switch is, here := where[partitionKey{topic: asked.Topic, partition: p}]; {
				case !ok:
					out.ErrorCode = codeLogDirNotFound
				case dir.Err != nil || here && is != dir.Path:
					out.ErrorCode = codeKafkaStorageError
				case !here:
					out.ErrorCode = codeReplicaNotAvailable
				}
				resp.Topics[at].Partitions = append(resp.Topics[at].Partitions, out)
			}
		}
	}
	r.respond(resp)
}
