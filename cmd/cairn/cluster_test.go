package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
