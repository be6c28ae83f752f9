package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// CreateAcls (30), versions 1 to 3: SECURITY_DISABLED for each, as Kafka without an authorizer.

func (s *Server) handle30CreateACLs(r *request) {
	req := r.body.(*kmsg.CreateACLsRequest)
	resp := kmsg.NewPtrCreateACLsResponse()
	message := noAuthorizer
	for range req.Creations {
		result := kmsg.NewCreateACLsResponseResult()
		result.ErrorCode, result.ErrorMessage = codeSecurityDisabled, &message
		resp.Results = append(resp.Results, result)
	}
	r.respond(resp)
}
