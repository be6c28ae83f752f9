package replica

import (
	"slices"
	"time"
)

// parked are appends that are written and wait to be acknowledged, ascending by end.
type parked []*AppendRequest

// put takes one up. A retry may belong before others.
func (p *parked) put(a *AppendRequest) {
	i := len(*p)
	for i > 0 && (*p)[i-1].end > a.end {
		i--
	}
	*p = slices.Insert(*p, i, a)
}

// answer finishes those that end at offset or before.
func (p *parked) answer(offset, logStart int64) {
	list, n := *p, 0
	for n < len(list) && list[n].end <= offset {
		a := list[n]
		a.LogStart = logStart
		a.finish(nil)
		list[n] = nil
		n++
	}
	switch {
	case n < len(list):
		*p = list[n:]
	case cap(list) > 1024:
		*p = nil // a burst's memory is given back
	default:
		*p = list[:0]
	}
}

// refuse finishes all of them with err.
func (p *parked) refuse(err error) {
	for _, a := range *p {
		a.finish(err)
	}
	*p = nil
}

// timeOut finishes those whose time is over.
func (p *parked) timeOut(now time.Duration) {
	*p = slices.DeleteFunc(*p, func(a *AppendRequest) bool {
		if a.deadline > now {
			return false
		}
		a.finish(ErrTimeout)
		return true
	})
}
