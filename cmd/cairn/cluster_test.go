package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cairn/engine/broker/controller"
	"cairn/engine/ensemble"
)

// The exit code of status says whether the ensemble works, for people and for machines.
func TestClusterStatusExitCode(t *testing.T) {
	for trouble, code := range map[string]int{"": exitOK, "no quorum: 1 of the 3 voters are heard": exitFailed} {
		box := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(ensemble.Cluster{Server: 1, Trouble: trouble})
		}))
		defer box.Close()
		for _, form := range [][]string{nil, {"--json"}} {
			args := append([]string{"cluster", "status", "--http", strings.TrimPrefix(box.URL, "http://")}, form...)
			if got := cairn("", args...); got.code != code || !strings.Contains(got.out+got.errs, trouble) {
				t.Errorf("%v with trouble %q: code %d, %q, %q", args, trouble, got.code, got.out, got.errs)
			}
		}
	}
}

// What moves by itself is shown with the reason why other partitions do not, and paused with one request.
func TestClusterRebalance(t *testing.T) {
	status := controller.RebalanceStatus{
		Paused: true, Moving: 1, MovesMax: 10, Waiting: 2,
		Moves:  []controller.PartitionMove{{Topic: "t", Partition: 3, Replicas: []int32{1, 2, 3}, Adding: []int32{3}, InSync: []int32{1, 2}}},
		Wanted: []controller.PartitionWanted{{Topic: "u", Replicas: []int32{1, 4}, Want: 2, Lost: []int32{4}, Why: "no broker is left"}},
		Absent: []controller.Absence{{Broker: 4, AwaySeconds: 660}, {Broker: 5, AwaySeconds: 10, LeftSeconds: 590}},
	}
	var asked []string
	box := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.Method == http.MethodGet {
			_ = json.NewEncoder(w).Encode(status)
		}
	}))
	defer box.Close()
	run := func(args ...string) string {
		t.Helper()
		got := cairn("", append([]string{"cluster", "rebalance", "--http", strings.TrimPrefix(box.URL, "http://")}, args...)...)
		if got.code != exitOK {
			t.Errorf("%v: code %d, %q", args, got.code, got.errs)
		}
		return got.out
	}
	for _, want := range []string{
		"paused: nothing new is moved; 1 partitions move, at most 10 at a time; 2 more should", "box 4  11m0s  now", "box 5  10s    in 9m50s",
		"t-3    1,2,3     3       -         1,2", "u-0          1,4       2       4        no broker is left", "1 more are not shown",
	} {
		if out := run("status"); !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	var back controller.RebalanceStatus
	if err := json.Unmarshal([]byte(run("status", "--json")), &back); err != nil || !reflect.DeepEqual(back, status) {
		t.Errorf("%v: %+v", err, back)
	}
	asked = nil
	run("pause")
	run("resume", "--json")
	if want := []string{"POST /rebalance/pause", "POST /rebalance/resume"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
}
