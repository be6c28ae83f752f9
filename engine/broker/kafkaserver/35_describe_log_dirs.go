package kafkaserver

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs (35), versions 1 to 4: the log directories of this box with the sizes of their partitions, all or
// those that are named (null means all, an empty list none), and from version 4 on the size of their device (KIP-827).
// A failed directory is listed with KAFKA_STORAGE_ERROR and no partitions.

func (s *Server) handle35DescribeLogDirs(r *request) {
	req := r.body.(*kmsg.DescribeLogDirsRequest)
	wanted := named[partitionKey]{}
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			wanted.first(partitionKey{topic: req.Topics[i].Topic, partition: p})
		}
	}
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	for _, d := range s.deps.LogDirs.Describe() {
		out := kmsg.NewDescribeLogDirsResponseDir()
		out.Dir, out.TotalBytes, out.UsableBytes = d.Path, d.TotalBytes, d.FreeBytes
		if d.Err != nil {
			out.ErrorCode = codeKafkaStorageError
		} else {
			out.Topics = logDirTopics(d.Replicas, wanted, req.Topics == nil)
		}
		resp.Dirs = append(resp.Dirs, out)
	}
	r.respond(resp)
}

// logDirTopics groups the replicas of a directory by topic, in the order of names and numbers.
func logDirTopics(replicas []LogDirReplica, wanted named[partitionKey], all bool) []kmsg.DescribeLogDirsResponseDirTopic {
	replicas = slices.Clone(replicas)
	slices.SortFunc(replicas, func(a, b LogDirReplica) int {
		if a.Topic != b.Topic {
			if a.Topic < b.Topic {
				return -1
			}
			return 1
		}
		return int(a.Partition) - int(b.Partition)
	})
	var out []kmsg.DescribeLogDirsResponseDirTopic
	for _, rep := range replicas {
		if _, named := wanted[partitionKey{topic: rep.Topic, partition: rep.Partition}]; !all && !named {
			continue
		}
		if n := len(out); n == 0 || out[n-1].Topic != rep.Topic {
			t := kmsg.NewDescribeLogDirsResponseDirTopic()
			t.Topic = rep.Topic
			out = append(out, t)
		}
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size, p.OffsetLag = rep.Partition, rep.Bytes, rep.Lag
		last := &out[len(out)-1]
		last.Partitions = append(last.Partitions, p)
	}
	return out
}
