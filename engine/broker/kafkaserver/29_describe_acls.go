package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeAcls (29), versions 1 to 3.
//
// Without an authorizer Kafka answers SECURITY_DISABLED, not an empty list: user interfaces probe for that, and
// MirrorMaker stops copying ACLs.

// The texts of SECURITY_DISABLED: the broker answers descriptions, Kafka's controller the changes.
const (
	noAuthorizerOnBroker = "No Authorizer is configured on the broker"
	noAuthorizer         = "No Authorizer is configured."
)

func (s *Server) handle29DescribeACLs(r *request) {
	resp := kmsg.NewPtrDescribeACLsResponse()
	message := noAuthorizerOnBroker
	resp.ErrorCode, resp.ErrorMessage = codeSecurityDisabled, &message
	r.respond(resp)
}
