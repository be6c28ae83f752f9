package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeUserScramCredentials (50), version 0: there are no users. All users (a null list) is answered with none; a
// user that is named is not found.

func (s *Server) handle50DescribeUserSCRAMCredentials(r *request) {
	req := r.body.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	for i := range req.Users {
		result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		result.User = req.Users[i].Name
		message := "Attempt to describe a user credential that does not exist: " + result.User
		result.ErrorCode, result.ErrorMessage = codeResourceNotFound, &message
		resp.Results = append(resp.Results, result)
	}
	r.respond(resp)
}
