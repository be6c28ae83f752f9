package kafkaserver

import (
	"regexp"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions (18), versions 0 to 4: what this server serves, from the table.
//
// The response header is version 0 at every version. A version from the future is answered at version 0 with error 35
// and the whole list (conn.unknownApiVersions). From version 3 on the client's software name and version must look
// like such (KIP-511), else INVALID_REQUEST. Produce is advertised from 0 though 0 to 2 are refused (KAFKA-18659).
//
// It advertises no features: transaction.version, group.version and share.version are for issues that bring them, and
// without a finalized transaction.version the Java client keeps to the older transaction protocol.

var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func (s *Server) handle18ApiVersions(r *request) {
	req := r.body.(*kmsg.ApiVersionsRequest)
	if r.version >= 3 && !(softwareName.MatchString(req.ClientSoftwareName) && softwareName.MatchString(req.ClientSoftwareVersion)) {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.ErrorCode = codeInvalidRequest
		r.respond(resp)
		return
	}
	r.respond(s.apiVersions(codeNone))
}

// apiVersions is the answer with that error code.
func (s *Server) apiVersions(code int16) *kmsg.ApiVersionsResponse {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = code
	resp.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, 0, len(s.table))
	for i := range s.table {
		a := &s.table[i]
		key := kmsg.NewApiVersionsResponseApiKey()
		key.ApiKey, key.MinVersion, key.MaxVersion = a.key, a.minAdvertised, a.max
		resp.ApiKeys = append(resp.ApiKeys, key)
	}
	return resp
}
