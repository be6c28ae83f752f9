package zkserver

import (
	"errors"
	"sync/atomic"
)

// errLargeRequest ends a connection whose large request there is no room for.
var errLargeRequest = errors.New("rejecting a large request: those under way have as many bytes as they may")

// largeRequests bounds the bytes of the requests above a threshold that all connections have under way, from their receipt
// until their answer (ZooKeeperServer.checkRequestSizeWhenReceivingMessage). Whose request does not fit is closed. It is
// an operator's bound, off by default; what keeps the box's memory are the gates, which let wait.
type largeRequests struct {
	threshold int // in bytes, of the frame; 0 is off
	bytesMax  int64
	bytes     atomic.Int64
}

func (l *largeRequests) large(length int) bool { return l.threshold > 0 && length > l.threshold }

// fits tells whether a request may be received. Only enter holds it to that: others may come meanwhile.
func (l *largeRequests) fits(length int) bool {
	return !l.large(length) || l.bytes.Load()+int64(length) <= l.bytesMax
}

// enter counts a request that was received: bytes, 0 for one that is not large, are to be given to leave. False: it does
// not fit.
func (l *largeRequests) enter(length int) (bytes int, ok bool) {
	if !l.large(length) {
		return 0, true
	}
	if l.bytes.Add(int64(length)) > l.bytesMax {
		l.bytes.Add(-int64(length))
		return 0, false
	}
	return length, true
}

func (l *largeRequests) leave(bytes int) {
	if bytes > 0 {
		l.bytes.Add(-int64(bytes))
	}
}
