package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// apisData is the table of the data family. The lowest versions are Kafka 4's (KIP-896); the highest are the newest
// that Kafka serves clients.
func apisData() []api {
	return []api{
		{key: 0, name: "Produce", minAdvertised: 0, min: 3, max: 13, pipelined: true, borrows: true, records: true, reused: true,
			new: func() kmsg.Request { return new(kmsg.ProduceRequest) }, handle: (*Server).handle00Produce},
		{key: 1, name: "Fetch", minAdvertised: 4, min: 4, max: 18, borrows: true,
			new: func() kmsg.Request { return new(kmsg.FetchRequest) }, handle: (*Server).handle01Fetch},
		{key: 2, name: "ListOffsets", minAdvertised: 1, min: 1, max: 11,
			new: func() kmsg.Request { return new(kmsg.ListOffsetsRequest) }, handle: (*Server).handle02ListOffsets},
		{key: 3, name: "Metadata", minAdvertised: 0, min: 0, max: 13, bulky: true, borrows: true,
			new: func() kmsg.Request { return new(kmsg.MetadataRequest) }, handle: (*Server).handle03Metadata},
		{key: 18, name: "ApiVersions", minAdvertised: 0, min: 0, max: 4,
			new: func() kmsg.Request { return new(kmsg.ApiVersionsRequest) }, handle: (*Server).handle18ApiVersions},
		{key: 21, name: "DeleteRecords", minAdvertised: 0, min: 0, max: 2,
			new: func() kmsg.Request { return new(kmsg.DeleteRecordsRequest) }, handle: (*Server).handle21DeleteRecords},
		{key: 22, name: "InitProducerId", minAdvertised: 0, min: 0, max: 5,
			new: func() kmsg.Request { return new(kmsg.InitProducerIDRequest) }, handle: (*Server).handle22InitProducerID},
		{key: 23, name: "OffsetForLeaderEpoch", minAdvertised: 2, min: 2, max: 4,
			new:    func() kmsg.Request { return new(kmsg.OffsetForLeaderEpochRequest) },
			handle: (*Server).handle23OffsetForLeaderEpoch},
		{key: 34, name: "AlterReplicaLogDirs", minAdvertised: 1, min: 1, max: 2, bulky: true,
			new: func() kmsg.Request { return new(kmsg.AlterReplicaLogDirsRequest) }, handle: (*Server).handle34AlterReplicaLogDirs},
		{key: 35, name: "DescribeLogDirs", minAdvertised: 1, min: 1, max: 4, bulky: true,
			new: func() kmsg.Request { return new(kmsg.DescribeLogDirsRequest) }, handle: (*Server).handle35DescribeLogDirs},
		{key: 60, name: "DescribeCluster", minAdvertised: 0, min: 0, max: 2, bulky: true,
			new: func() kmsg.Request { return new(kmsg.DescribeClusterRequest) }, handle: (*Server).handle60DescribeCluster},
		{key: 61, name: "DescribeProducers", minAdvertised: 0, min: 0, max: 0, bulky: true,
			new: func() kmsg.Request { return new(kmsg.DescribeProducersRequest) }, handle: (*Server).handle61DescribeProducers},
		{key: 75, name: "DescribeTopicPartitions", minAdvertised: 0, min: 0, max: 0, bulky: true,
			new:    func() kmsg.Request { return new(kmsg.DescribeTopicPartitionsRequest) },
			handle: (*Server).handle75DescribeTopicPartitions},
	}
}
