package seglog

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Usage is how full the device of a log directory is, in bytes.
type Usage struct {
	Total, Free uint64 // of the device
	Logs        int64  // in the segments of open logs
	Budget      int64  // that logs may fill
}

// Trim is a part of a log that the device's budget wants removed by that log's owner.
type Trim struct {
	Log *Log
	// Before: whole segments below this offset go, by Log.TrimTo.
	Before int64
	// Bytes that it frees.
	Bytes int64
}

// Usage reads how full the device is.
func (d *Dir) Usage() (Usage, error) {
	if err := d.Failed(); err != nil {
		return Usage{}, err
	}
	u, err := d.fs.Usage(d.cfg.Path)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %s: %w", d.cfg.Path, d.check("read free space", err))
	}
	out := Usage{Total: u.Total, Free: u.Free, Budget: int64(float64(u.Total) * d.cfg.BudgetFraction)}
	for _, v := range d.views() {
		out.Logs += v.Size()
	}
	return out, nil
}

func (d *Dir) views() []View {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]View, 0, len(d.logs))
	for _, l := range d.logs {
		out = append(out, l.View())
	}
	return out
}

// PlanBudget names the oldest sealed segments of logs that may be deleted, until the logs fit their budget and the device has
// twice its reserve free. It is empty when they do, or when nothing more may go. Age is the records' own time; a segment is never
// younger than one in front of it.
func (d *Dir) PlanBudget() ([]Trim, error) {
	u, err := d.Usage()
	if err != nil {
		return nil, err
	}
	need := max(u.Logs-u.Budget, 2*d.reserve(u.Total)-int64(min(u.Free, math.MaxInt64)))
	if need <= 0 {
		return nil, nil
	}
	type candidate struct {
		age    int64
		view   int
		before int64
		bytes  int64
	}
	views := d.views()
	var all []candidate
	for i, v := range views {
		if !v.removable {
			continue
		}
		age := int64(math.MinInt64)
		for j, s := range v.segs[:len(v.segs)-1] {
			newest, err := v.newestOf(s)
			if err != nil {
				break // being removed by somebody else
			}
			age = max(age, newest.timestamp)
			all = append(all, candidate{age, i, v.segs[j+1].base, s.size})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		switch {
		case a.age != b.age:
			return cmp.Compare(a.age, b.age)
		case a.view != b.view:
			return cmp.Compare(a.view, b.view)
		}
		return cmp.Compare(a.before, b.before)
	})
	plan := map[int]*Trim{}
	for _, c := range all {
		if need <= 0 {
			break
		}
		t := plan[c.view]
		if t == nil {
			t = &Trim{Log: views[c.view].log}
			plan[c.view] = t
		}
		t.Before, t.Bytes = c.before, t.Bytes+c.bytes
		need -= c.bytes
	}
	out := make([]Trim, 0, len(plan))
	for _, t := range plan {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Trim) int {
		return slices.Compare([]byte(a.Log.tp.String()), []byte(b.Log.tp.String()))
	})
	return out, nil
}
