package history

import "slices"

// checkFIFO judges the order of the answers on each connection whose client knows the order of its requests: answered in
// that order, none behind one that has no answer, and zxids that rise, strictly from write to write.
func checkFIFO(x *index) []Violation {
	type connection struct {
		client  int
		session int64
		conn    int
	}
	pipelines := map[connection][]*Op{}
	var order []connection
	for _, o := range x.h.Ops {
		if o.Order == 0 || o.Kind == Acquire {
			continue
		}
		c := connection{o.Client, o.Session, o.Conn}
		if pipelines[c] == nil {
			order = append(order, c)
		}
		pipelines[c] = append(pipelines[c], o)
	}
	var violations []Violation
	for _, c := range order {
		ops := pipelines[c]
		slices.SortStableFunc(ops, func(a, b *Op) int { return a.Order - b.Order })
		violations = append(violations, inOrder(ops)...)
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
