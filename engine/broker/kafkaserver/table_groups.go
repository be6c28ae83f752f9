package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// apisGroups is the table of the group family. The lowest versions are Kafka 4's (KIP-896), JoinGroup's 0 included: old
// librdkafka probes for it, and kafka-go knows no other than 1 (KAFKA-19444).
func apisGroups() []api {
	return []api{
		{key: 8, name: "OffsetCommit", minAdvertised: 2, min: 2, max: 10,
			new: func() kmsg.Request { return new(kmsg.OffsetCommitRequest) }, handle: (*Server).handle08OffsetCommit},
		{key: 9, name: "OffsetFetch", minAdvertised: 1, min: 1, max: 10,
			new: func() kmsg.Request { return new(kmsg.OffsetFetchRequest) }, handle: (*Server).handle09OffsetFetch},
		{key: 10, name: "FindCoordinator", minAdvertised: 0, min: 0, max: 6,
			new: func() kmsg.Request { return new(kmsg.FindCoordinatorRequest) }, handle: (*Server).handle10FindCoordinator},
		{key: 11, name: "JoinGroup", minAdvertised: 0, min: 0, max: 9,
			new: func() kmsg.Request { return new(kmsg.JoinGroupRequest) }, handle: (*Server).handle11JoinGroup},
		{key: 12, name: "Heartbeat", minAdvertised: 0, min: 0, max: 4,
			new: func() kmsg.Request { return new(kmsg.HeartbeatRequest) }, handle: (*Server).handle12Heartbeat},
		{key: 13, name: "LeaveGroup", minAdvertised: 0, min: 0, max: 5,
			new: func() kmsg.Request { return new(kmsg.LeaveGroupRequest) }, handle: (*Server).handle13LeaveGroup},
		{key: 14, name: "SyncGroup", minAdvertised: 0, min: 0, max: 5,
			new: func() kmsg.Request { return new(kmsg.SyncGroupRequest) }, handle: (*Server).handle14SyncGroup},
		{key: 15, name: "DescribeGroups", minAdvertised: 0, min: 0, max: 6, bulky: true,
			new: func() kmsg.Request { return new(kmsg.DescribeGroupsRequest) }, handle: (*Server).handle15DescribeGroups},
		{key: 16, name: "ListGroups", minAdvertised: 0, min: 0, max: 5, bulky: true,
			new: func() kmsg.Request { return new(kmsg.ListGroupsRequest) }, handle: (*Server).handle16ListGroups},
		{key: 42, name: "DeleteGroups", minAdvertised: 0, min: 0, max: 3,
			new: func() kmsg.Request { return new(kmsg.DeleteGroupsRequest) }, handle: (*Server).handle42DeleteGroups},
		{key: 47, name: "OffsetDelete", minAdvertised: 0, min: 0, max: 0,
			new: func() kmsg.Request { return new(kmsg.OffsetDeleteRequest) }, handle: (*Server).handle47OffsetDelete},
	}
}
