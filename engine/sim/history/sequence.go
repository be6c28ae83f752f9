package history

import (
	"slices"
	"strconv"
)

// checkSequences judges the names of sequential nodes below each parent: no two alike, and numbers that rise with real
// time and with the zxids.
func checkSequences(h *History) []Violation {
	type named struct {
		op     *Op
		number int64
	}
	byParent := map[string][]named{}
	names := map[string]*Op{}
	var violations []Violation
	for _, o := range h.Ops {
		if o.Kind != CreateSequential || !o.done() {
			continue
		}
		name := o.Result.Name
		if other := names[name]; other != nil {
			violations = append(violations, violation("sequence", []any{other, o}, "two creates were given the name %s:", name))
		}
		names[name] = o
		number, err := strconv.ParseInt(name[min(len(o.Path), len(name)):], 10, 64)
		if err != nil || name[:min(len(o.Path), len(name))] != o.Path {
			violations = append(violations, violation("sequence", []any{o}, "%q is no sequential name of %q:", name, o.Path))
			continue
		}
		byParent[parent(name)] = append(byParent[parent(name)], named{o, number})
	}
	for _, list := range byParent {
		byZxid := slices.Clone(list)
		slices.SortStableFunc(byZxid, func(a, b named) int { return int(a.op.Result.Zxid - b.op.Result.Zxid) })
		for i := 1; i < len(byZxid); i++ {
			if a, b := byZxid[i-1], byZxid[i]; a.op.Result.Zxid > 0 && b.number <= a.number {
				violations = append(violations, violation("sequence", []any{a.op, b.op}, "the numbers do not rise with the zxids:"))
			}
		}
		slices.SortStableFunc(list, func(a, b named) int { return int(a.number - b.number) })
		for i := 1; i < len(list); i++ { // a later number must not have been answered before an earlier one was asked for
			if list[i].op.before(list[i-1].op) {
				violations = append(violations, violation("sequence", []any{list[i].op, list[i-1].op}, "a create that came later was given a lower number:"))
			}
		}
	}
	return violations
}
