package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeUserScramCredentials (50), version 0: there are no users. All users (a null list) is answered with none; a
// user that is named is not found, one that is named twice is DUPLICATE_RESOURCE.

// usersPerRequestMax bounds what one request may name: the texts of the answer are longer than the names.
const usersPerRequestMax = 10_000

func (s *Server) handle50DescribeUserSCRAMCredentials(r *request) {
	req := r.body.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	if r.tooMany("users", len(req.Users), usersPerRequestMax) {
		return
	}
	names := named[string]{}
	for i := range req.Users {
		if !names.first(req.Users[i].Name) {
			continue
		}
		result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		result.User, result.ErrorCode = req.Users[i].Name, codeResourceNotFound
		resp.Results = append(resp.Results, result)
	}
	for i := range resp.Results {
		result := &resp.Results[i]
		message := "Attempt to describe a user credential that does not exist: " + result.User
		if names[result.User] {
			result.ErrorCode = codeDuplicateResource
			message = "Cannot describe SCRAM credentials for the same user twice in a single request: " + result.User
		}
		result.ErrorMessage = &message
	}
	r.respond(resp)
}
