package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeClientQuotas (48), versions 0 and 1: there are no quotas, which is an empty list and no error: kafka-configs
// asks before it describes users and clients.

func (s *Server) handle48DescribeClientQuotas(r *request) {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{}
	r.respond(resp)
}
