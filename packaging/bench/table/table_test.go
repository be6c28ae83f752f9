package table

import (
	"strings"
	"testing"
)

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		r    Row
		want string
	}{
		{Row{Value: 3}, "-"},
		{Row{Value: 3, Target: 3, Promise: AtMost, Unit: "s"}, "met (≤ 3.000 s)"},
		{Row{Value: 3.1, Target: 3, Promise: AtMost, Unit: "s"}, "**MISSED** (≤ 3.000 s)"},
		{Row{Value: 2, Target: 3, Promise: AtLeast, Unit: "x"}, "**MISSED** (≥ 3.000 x)"},
		{Row{Value: 2, Target: 1, Promise: Exactly, Unit: "x"}, "**MISSED** (= 1.000 x)"},
		{Row{Value: 1, Target: 1, Promise: Exactly, Unit: "x"}, "met (= 1.000 x)"},
	} {
		if got := c.r.verdict(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
	var out strings.Builder
	if err := Print(&out, []string{"a fact"}, "about", []Row{{Name: "a row", Value: 2, Unit: "s"}}); err != nil || !strings.Contains(out.String(), "| a row | 2.000 | s | - |  |\n") {
		t.Fatalf("%v\n%s", err, out.String())
	}
}
