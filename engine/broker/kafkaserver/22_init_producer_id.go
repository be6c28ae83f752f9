package kafkaserver

import "github.com/twmb/franz-go/pkg/kmsg"

// InitProducerId (22), versions 0 to 5: gives an idempotent producer a fresh id with epoch 0. A producer that names its
// old id (v3+, KIP-360) gets a fresh one too, as from Kafka.
//
// Transactions are not served yet: a transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, because
// that is the one refusal which every client takes as final instead of trying again for ever (librdkafka retries what
// it does not know). An empty transactional id is INVALID_REQUEST, as in Kafka.

func (s *Server) handle22InitProducerID(r *request) {
	req := r.body.(*kmsg.InitProducerIDRequest)
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = codeTransactionalIDAuthFailed
		if *req.TransactionalID == "" {
			resp.ErrorCode = codeInvalidRequest
		}
		r.respond(resp)
		return
	}
	s.deps.ProducerIDs.Next(func(id int64, err error) {
		if err != nil {
			// Kafka's brokers answer this while they wait for a block of ids; clients try again.
			switch resp.ErrorCode = s.codeOf(err); resp.ErrorCode {
			case codeNotController, codeRequestTimedOut, codeBrokerNotAvailable:
				resp.ErrorCode = codeCoordinatorLoadInProgress
			}
		} else {
			resp.ProducerID, resp.ProducerEpoch = id, 0
		}
		r.respondOwned(resp)
	})
}
