package boxes

import "testing"

func TestOneWayIsOneWay(t *testing.T) {
	l := Cut(2, []int{1, 3}, true, false)
	if !l[2][1] || !l[2][3] || l[1][2] || l[3][2] || l[1][3] {
		t.Errorf("links %v", l)
	}
}
