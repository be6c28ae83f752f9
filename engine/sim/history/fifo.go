package history

import "slices"

// connection is one, and its requests in the order of sending, where its client knows it.
type connection struct {
	client  int
	session int64
	conn    int
}

// pipelines are the requests of each connection.
func pipelines(h *History) (order []connection, requests map[connection][]*Op) {
	requests = map[connection][]*Op{}
	for _, o := range h.Ops {
		if o.Order == 0 || o.Kind == Acquire {
			continue
		}
		c := connection{o.Client, o.Session, o.Conn}
		if requests[c] == nil {
			order = append(order, c)
		}
		requests[c] = append(requests[c], o)
	}
	for _, ops := range requests {
		slices.SortStableFunc(ops, func(a, b *Op) int { return a.Order - b.Order })
	}
	return order, requests
}

// overtaken finds the writes without an answer behind which something on the same connection is known to have happened.
func overtaken(x *index) map[*Op]*Op {
	found := map[*Op]*Op{}
	order, requests := pipelines(x.h)
	for _, c := range order {
		var shown *Op // the earliest read that shows one of those behind
		for _, o := range slices.Backward(requests[c]) {
			if o.Known() {
				break
			}
			if shown != nil {
				found[o] = shown
			}
			if read := x.witness(o); read != nil && (shown == nil || read.returned < shown.returned) {
				shown = read
			}
		}
	}
	return found
}

// checkFIFO judges the order of the answers on each connection whose client knows the order of its requests: answered in
// that order, none behind one that has no answer, and zxids that rise, strictly from write to write.
func checkFIFO(x *index) []Violation {
	order, requests := pipelines(x.h)
	var violations []Violation
	for _, c := range order {
		violations = append(violations, inOrder(requests[c])...)
	}
	return violations
}

// inOrder judges one connection.
func inOrder(ops []*Op) []Violation {
	var last, wrote *Op // the last that was answered, the last of them that took a zxid
	var zxid int64
	for i, o := range ops {
		if !o.Known() {
			for _, later := range ops[i+1:] {
				if later.Known() {
					return []Violation{violation("fifo", []any{o, later}, "an answer came though a request before it on the connection has none:")}
				}
			}
			return nil
		}
		if last != nil && o.returned < last.returned {
			return []Violation{violation("fifo", []any{last, o}, "two answers of a connection came in another order than their requests:")}
		}
		takes := o.Kind.writes() && o.numbered()
		if z := o.Result.Zxid; z > 0 && wrote != nil && (z < zxid || takes && z == wrote.Result.Zxid) {
			return []Violation{violation("fifo", []any{wrote, last, o}, "the zxids of a connection's answers do not rise:")}
		}
		last, zxid = o, max(zxid, o.Result.Zxid)
		if takes {
			wrote = o
		}
	}
	return nil
}
