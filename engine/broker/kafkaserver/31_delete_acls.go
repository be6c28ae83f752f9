package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// DeleteAcls (31), versions 1 to 3: SECURITY_DISABLED for each, as Kafka without an authorizer.

func (s *Server) handle31DeleteACLs(r *request) {
	req := r.body.(*kmsg.DeleteACLsRequest)
	resp := kmsg.NewPtrDeleteACLsResponse()
	message := noAuthorizer
	for range req.Filters {
		result := kmsg.NewDeleteACLsResponseResult()
		result.ErrorCode, result.ErrorMessage = codeSecurityDisabled, &message
		resp.Results = append(resp.Results, result)
	}
	r.respond(resp)
}
