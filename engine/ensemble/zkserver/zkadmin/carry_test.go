package zkadmin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// carried is a Carrier that holds a tree in memory.
type carried struct {
	tree   string
	format string
	closed int
	err    error
}

func (c *carried) Snapshot(_ context.Context, format string) (*Snapshot, error) {
	if c.err != nil {
		return nil, c.err
	}
	c.format = format
	return &Snapshot{ReadCloser: struct {
		io.Reader
		io.Closer
	}{strings.NewReader(c.tree), c}, Zxid: 0x1f, Bytes: int64(len(c.tree)), Nodes: 5, Ephemerals: 2}, nil
}

func (c *carried) Close() error {
	c.closed++
	return nil
}

func (c *carried) Restore(r io.Reader) (Restored, error) {
	if c.err != nil {
		return Restored{}, c.err
	}
	b, err := io.ReadAll(r)
	c.tree = string(b)
	return Restored{Zxid: 1 << 33, Nodes: 7, Ephemerals: 1, Reserved: 3}, err
}

func TestSnapshotAndRestore(t *testing.T) {
	source := example()
	c := &carried{tree: "the tree"}
	a := newAdmin(source)
	a.cfg.Carrier = c
	call := func(method, path, auth, body string) (int, map[string]any, *httptest.ResponseRecorder) {
		t.Helper()
		r := httptest.NewRequest(method, "/commands/"+path, bytes.NewReader([]byte(body)))
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		m := map[string]any{}
		_ = json.Unmarshal(w.Body.Bytes(), &m)
		return w.Code, m, w
	}
	const owner = "digest owner:x"
	code, _, w := call("GET", "snapshot", owner, "")
	if h := w.Header(); code != 200 || w.Body.String() != "the tree" || h.Get("last_zxid") != "0x1f" || h.Get("snapshot_size") != "8" ||
		h.Get("cairn_nodes") != "5" || h.Get("cairn_ephemerals_left_out") != "2" || c.format != FormatZooKeeper || c.closed != 1 {
		t.Errorf("%d %q %v, format %s, closed %d", code, w.Body, w.Header(), c.format, c.closed)
	}
	if code, _, w := call("GET", "snap?format=cairn", owner, ""); code != 200 || c.format != FormatCairn || w.Body.String() != "the tree" {
		t.Errorf("%d, format %s", code, c.format)
	}
	if code, m, w := call("GET", "snapshot?streaming=false", owner, ""); code != 200 || m["command"] != "snapshot" || m["error"] != nil || w.Header().Get("last_zxid") != "0x1f" {
		t.Errorf("%d %v", code, m)
	}
	if code, m, _ := call("GET", "snapshot?format=xml", owner, ""); code != 400 || m["error"] == nil {
		t.Errorf("%d %v", code, m)
	}
	if code, m, _ := call("POST", "rest", owner, "another"); code != 200 || m["last_zxid"] != float64(1<<33) || m["nodes"] != 7.0 ||
		m["ephemerals_left_out"] != 1.0 || m["reserved_left_out"] != 3.0 || m["error"] != nil || c.tree != "another" {
		t.Errorf("%d %v, tree %q", code, m, c.tree)
	}
	for _, x := range []struct {
		method, path, auth string
		code               int
		reason             string
	}{
		{"POST", "snapshot", owner, 405, "snapshot must be requested with GET"},
		{"GET", "restore", owner, 405, "restore must be requested with POST"},
		{"GET", "snapshot", "", 401, "Auth info is missing for the command"},
		{"POST", "restore", "digest other:x", 403, "Not authorized"},
		{"POST", "shed", owner, 403, "shed_connections is not offered by this server"},
	} {
		if code, m, _ := call(x.method, x.path, x.auth, "never"); code != x.code || m["error"] != x.reason {
			t.Errorf("%s %s: %d %v, want %d %s", x.method, x.path, code, m, x.code, x.reason)
		}
	}
	for err, want := range map[error]int{
		&Refusal{Status: http.StatusTooManyRequests, Err: errors.New("busy")}: 429, errors.New("the disk is gone"): 500,
	} {
		c.err = err
		for path, method := range map[string]string{"snapshot": "GET", "restore": "POST"} {
			if code, m, _ := call(method, path, owner, ""); code != want || m["error"] != err.Error() {
				t.Errorf("%s: %d %v, want %d", path, code, m, want)
			}
		}
	}
	c.err = nil
	a.cfg.Properties = map[string]string{"zookeeper.admin.restore.enabled": "false"}
	if code, m, _ := call("POST", "restore", owner, "never"); code != 503 || m["error"] == nil {
		t.Errorf("switched off: %d %v", code, m)
	}
	source.stats.ReadOnly = true
	if code, m, _ := call("GET", "snapshot", owner, ""); code != 503 || m["error"] == nil {
		t.Errorf("read-only: %d %v", code, m)
	}
	source.stats.Serving = false
	if _, m, _ := call("GET", "snapshot", owner, ""); m["error"] != notServing {
		t.Errorf("not serving: %v", m)
	}
	a.cfg.Carrier = nil
	if code, _, _ := call("GET", "snapshot", owner, ""); code != 403 {
		t.Errorf("not offered: %d", code)
	}
	if c.tree != "another" {
		t.Errorf("what was refused was restored: %q", c.tree)
	}
}
