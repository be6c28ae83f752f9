package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// apisAdmin is the table of the admin family. The lowest versions are Kafka 4's (KIP-896), the highest are the newest
// that Kafka serves clients.
func apisAdmin() []api {
	return []api{
		{key: 19, name: "CreateTopics", minAdvertised: 2, min: 2, max: 7,
			new: func() kmsg.Request { return new(kmsg.CreateTopicsRequest) }, handle: (*Server).handle19CreateTopics},
		{key: 20, name: "DeleteTopics", minAdvertised: 1, min: 1, max: 6,
			new: func() kmsg.Request { return new(kmsg.DeleteTopicsRequest) }, handle: (*Server).handle20DeleteTopics},
		{key: 29, name: "DescribeAcls", minAdvertised: 1, min: 1, max: 3,
			new: func() kmsg.Request { return new(kmsg.DescribeACLsRequest) }, handle: (*Server).handle29DescribeACLs},
		{key: 30, name: "CreateAcls", minAdvertised: 1, min: 1, max: 3,
			new: func() kmsg.Request { return new(kmsg.CreateACLsRequest) }, handle: (*Server).handle30CreateACLs},
		{key: 31, name: "DeleteAcls", minAdvertised: 1, min: 1, max: 3,
			new: func() kmsg.Request { return new(kmsg.DeleteACLsRequest) }, handle: (*Server).handle31DeleteACLs},
		{key: 32, name: "DescribeConfigs", minAdvertised: 1, min: 1, max: 4, bulky: true,
			new: func() kmsg.Request { return new(kmsg.DescribeConfigsRequest) }, handle: (*Server).handle32DescribeConfigs},
		{key: 33, name: "AlterConfigs", minAdvertised: 0, min: 0, max: 2,
			new: func() kmsg.Request { return new(kmsg.AlterConfigsRequest) }, handle: (*Server).handle33AlterConfigs},
		{key: 37, name: "CreatePartitions", minAdvertised: 0, min: 0, max: 3,
			new: func() kmsg.Request { return new(kmsg.CreatePartitionsRequest) }, handle: (*Server).handle37CreatePartitions},
		{key: 43, name: "ElectLeaders", minAdvertised: 0, min: 0, max: 2,
			new: func() kmsg.Request { return new(kmsg.ElectLeadersRequest) }, handle: (*Server).handle43ElectLeaders},
		{key: 44, name: "IncrementalAlterConfigs", minAdvertised: 0, min: 0, max: 1,
			new:    func() kmsg.Request { return new(kmsg.IncrementalAlterConfigsRequest) },
			handle: (*Server).handle44IncrementalAlterConfigs},
		{key: 45, name: "AlterPartitionReassignments", minAdvertised: 0, min: 0, max: 1,
			new:    func() kmsg.Request { return new(kmsg.AlterPartitionAssignmentsRequest) },
			handle: (*Server).handle45AlterPartitionReassignments},
		{key: 46, name: "ListPartitionReassignments", minAdvertised: 0, min: 0, max: 0, bulky: true,
			new:    func() kmsg.Request { return new(kmsg.ListPartitionReassignmentsRequest) },
			handle: (*Server).handle46ListPartitionReassignments},
		{key: 48, name: "DescribeClientQuotas", minAdvertised: 0, min: 0, max: 1,
			new:    func() kmsg.Request { return new(kmsg.DescribeClientQuotasRequest) },
			handle: (*Server).handle48DescribeClientQuotas},
		{key: 50, name: "DescribeUserScramCredentials", minAdvertised: 0, min: 0, max: 0,
			new:    func() kmsg.Request { return new(kmsg.DescribeUserSCRAMCredentialsRequest) },
			handle: (*Server).handle50DescribeUserSCRAMCredentials},
		{key: 74, name: "ListConfigResources", minAdvertised: 0, min: 0, max: 1, bulky: true,
			new:    func() kmsg.Request { return new(kmsg.ListConfigResourcesRequest) },
			handle: (*Server).handle74ListConfigResources},
	}
}
