package zkadmin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
)

// Carrier takes the tree out and puts another in its place.
type Carrier interface {
	// Snapshot takes the tree as it is now, in one of the Formats. The caller closes it.
	Snapshot(ctx context.Context, format string) (*Snapshot, error)
	// Restore puts what r holds, in whichever of the Formats, into the tree's place. What it cannot do changes nothing.
	Restore(r io.Reader) (Restored, error)
}

// Formats that Carrier.Snapshot knows.
const (
	FormatZooKeeper = "zookeeper" // a snapshot as ZooKeeper writes it
	FormatCairn     = "cairn"     // a backup of this program
)

// Snapshot is a tree that was taken out.
type Snapshot struct {
	io.ReadCloser
	Zxid       int64
	Bytes      int64
	Nodes      int64
	Ephemerals int64 // that were left out
}

// Restored is what came of a restore.
type Restored struct {
	Zxid       int64 // that the tree is at now
	Nodes      int
	Ephemerals int64 // of the source, that were left out
	Reserved   int   // nodes of the source below /cairn, that were left out
}

// Refusal is an error of a Carrier with the HTTP status that tells it.
type Refusal struct {
	Status int
	Err    error
}

// Error is the cause's.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// carryCommand is a command that takes the tree out or in (Commands.SnapshotCommand, RestoreCommand), or another that is
// not for everybody.
type carryCommand struct {
	name, method string
	// property switches it off.
	property string
	// run is nil for what is not offered.
	run func(a *Admin, w http.ResponseWriter, r *http.Request)
}

var carrying = func() map[string]carryCommand {
	snapshot := carryCommand{"snapshot", http.MethodGet, "zookeeper.admin.snapshot.enabled", (*Admin).snapshot}
	restore := carryCommand{"restore", http.MethodPost, "zookeeper.admin.restore.enabled", (*Admin).restore}
	shed := carryCommand{"shed_connections", http.MethodPost, "", nil}
	return map[string]carryCommand{
		"snapshot": snapshot, "snap": snapshot, "restore": restore, "rest": restore, "shed_connections": shed, "shed": shed,
	}
}()

// carry checks what ZooKeeper checks, in its order: the method, whether the server serves, who asks, and whether the command
// is switched on.
func (a *Admin) carry(w http.ResponseWriter, r *http.Request, c *carryCommand) {
	refuse := func(status int, format string, args ...any) {
		a.write(w, status, c.name, fmt.Sprintf(format, args...), nil)
	}
	switch {
	case r.Method != c.method:
		w.Header().Set("Allow", c.method)
		refuse(http.StatusMethodNotAllowed, "%s must be requested with %s", c.name, c.method)
		return
	case a.cfg.Carrier == nil || c.run == nil:
		refuse(http.StatusForbidden, "%s is not offered by this server", c.name)
		return
	}
	switch stats := a.source.Stats(); {
	case !stats.Serving:
		refuse(http.StatusOK, "%s", notServing)
		return
	case stats.ReadOnly:
		refuse(http.StatusServiceUnavailable, "this server is read-only: it has no majority, and may not know the newest writes")
		return
	}
	if status, reason := a.source.Authorize(r.Header.Get("Authorization"), remoteOf(r)); status != 0 {
		refuse(status, "%s", reason)
		return
	}
	if a.cfg.Properties[c.property] == "false" {
		refuse(http.StatusServiceUnavailable, "%s is switched off by %s", c.name, c.property)
		return
	}
	c.run(a, w, r)
}

// remoteOf is the address that a request came from. An IPv4 client of an IPv6 socket counts as what it is.
func remoteOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// snapshot streams the tree: in ZooKeeper's format, or in that which ?format= says. The headers say what it holds; with
// ?streaming=false there is nothing more.
func (a *Admin) snapshot(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	format := query.Get("format")
	if format == "" {
		format = FormatZooKeeper
	}
	if format != FormatZooKeeper && format != FormatCairn {
		a.write(w, http.StatusBadRequest, "snapshot", fmt.Sprintf("the format %.32q is none of %s and %s", format, FormatZooKeeper, FormatCairn), nil)
		return
	}
	s, err := a.cfg.Carrier.Snapshot(r.Context(), format)
	if err != nil {
		a.carryFailed(w, "snapshot", err)
		return
	}
	defer func() { _ = s.Close() }() // it was only read
	h := w.Header()
	h.Set("last_zxid", "0x"+strconv.FormatInt(s.Zxid, 16))
	h.Set("snapshot_size", strconv.FormatInt(s.Bytes, 10))
	h.Set("cairn_nodes", strconv.FormatInt(s.Nodes, 10))
	h.Set("cairn_ephemerals_left_out", strconv.FormatInt(s.Ephemerals, 10))
	if query.Get("streaming") == "false" {
		a.write(w, http.StatusOK, "snapshot", "", nil)
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(s.Bytes, 10))
	_, _ = io.Copy(w, s) // a client that gets less than the length knows it
}

// restore takes the tree from the request's body.
func (a *Admin) restore(w http.ResponseWriter, r *http.Request) {
	done, err := a.cfg.Carrier.Restore(r.Body)
	if err != nil {
		a.carryFailed(w, "restore", err)
		return
	}
	a.write(w, http.StatusOK, "restore", "", object{
		{"last_zxid", done.Zxid}, {"nodes", done.Nodes}, {"ephemerals_left_out", done.Ephemerals}, {"reserved_left_out", done.Reserved},
	})
}

func (a *Admin) carryFailed(w http.ResponseWriter, name string, err error) {
	status := http.StatusInternalServerError
	var refusal *Refusal
	if errors.As(err, &refusal) {
		status = refusal.Status
	}
	a.write(w, status, name, err.Error(), nil)
}
