package kafkaserver

import (
	"context"
	"fmt"

	"cairn/engine/broker/group"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Groups is what the group APIs need of the coordinators: *coordinator.Coordinator, which documents the methods. done is
// called once, on the owner's goroutine, and must not block.
type Groups interface {
	Ask(ctx context.Context, q group.Request, done func(group.Answer))
	List(ctx context.Context, states []string, done func([]group.Listed, *kerr.Error))
}

// groupCode is the code of an answer's error.
func groupCode(err *kerr.Error) int16 {
	if err == nil {
		return codeNone
	}
	return err.Code
}

// park readies a request to wait for other members, for minutes perhaps. Its frame and its share of the budget are given
// back: everything in them must have been copied, or few members could stop the reading of all connections. The request
// is given up if its connection closes, since nobody would read the answer; the member itself stays until its session
// ends, as in Kafka. It reports false when the connection is closed already.
func (r *request) park() bool {
	s := r.conn.server
	s.frames.Put(r.frame)
	s.budget.give(r.cost)
	r.frame, r.body, r.cost = nil, nil, 0
	if r.onClose(r.abandon) {
		return true
	}
	r.abandon()
	return false
}

// orEmpty is the string, empty for null.
func orEmpty(v *string) string {
	if v == nil {
		return ""
	}
	return *v
}

// What one request may name. Kafka has no such bound; here a small frame must not make a large answer. Clients name tens.
const (
	groupsPerRequestMax  = 10_000
	offsetsPerRequestMax = 100_000
)

// tooMany closes the connection of a request that names more than it may, and reports whether it did.
func (r *request) tooMany(what string, n, most int) bool {
	if n <= most {
		return false
	}
	r.closeConn(fmt.Sprintf("%d %s in one request, at most %d", n, what, most))
	return true
}

// total adds up the lengths of n lists.
func total(n int, length func(int) int) int {
	sum := 0
	for i := range n {
		sum += length(i)
	}
	return sum
}
