package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"time"

	"cairn/engine/console"
	"cairn/engine/ensemble"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
)

// clusterSections are the console's part about the ensemble: to look at for everybody who reaches it, to change from this
// machine alone.
func (n *Node) clusterSections() []console.Section {
	return []console.Section{
		{Path: "/cluster", Title: "the servers of the ensemble", Handler: http.HandlerFunc(n.serveCluster)},
		{Path: "/cluster/reconfig", Handler: fromHere(n.serveReconfig)},
		{Path: "/cluster/transfer", Handler: fromHere(n.serveTransfer)},
	}
}

// clusterTime is how long a request about the cluster may take.
const clusterTime = 20 * time.Second

var errNoTime = errors.New("no answer in time; look at `cairn cluster status` for what came of it")

// fromHere lets requests through that come from this machine and not from a web page.
func fromHere(f func(*http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		ip := net.ParseIP(host)
		switch {
		case err != nil || ip == nil || !ip.IsLoopback():
			http.Error(w, "the cluster is changed from the box itself: run the command there", http.StatusForbidden)
		case r.Method != http.MethodPost || r.Header.Get("Origin") != "" || r.Header.Get("Content-Type") != "application/json":
			http.Error(w, "POST application/json is expected", http.StatusMethodNotAllowed)
		default:
			answerStatus(w, f(r), http.StatusConflict)
		}
	})
}

func (n *Node) serveCluster(w http.ResponseWriter, _ *http.Request) {
	show(w, n.ensemble.Cluster)
}

// show answers a request with what ask gives, as JSON.
func show[T any](w http.ResponseWriter, ask func(done func(T, error))) {
	type seen struct {
		what T
		err  error
	}
	got := make(chan seen, 1)
	ask(func(what T, err error) { got <- seen{what, err} })
	select {
	case s := <-got:
		if s.err != nil {
			answer(w, s.err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.what) // the client has gone if it fails
	case <-time.After(clusterTime):
		answer(w, errNoTime)
	}
}

// Reconfig is the body of a change of the configuration, in reconfig's form.
type Reconfig struct {
	Joining string `json:"joining,omitempty"`
	Leaving string `json:"leaving,omitempty"`
	// Version that the configuration must have; -1: any.
	Version int64 `json:"version"`
}

func (n *Node) serveReconfig(r *http.Request) error {
	q := Reconfig{Version: -1}
	if err := decodeBody(r, &q); err != nil {
		return err
	}
	done := make(chan error, 1)
	request := jute.ReconfigRequest{Joining: q.Joining, Leaving: q.Leaving, CurConfigID: q.Version}
	n.ensemble.Reconfigure(request, func(out znode.Outcome, err error) {
		if err == nil && out.Err != jute.OK {
			err = reconfigError(out.Err)
		}
		done <- err
	})
	return await(done)
}

// reconfigError says what a code of reconfig means.
func reconfigError(code jute.Code) error {
	switch code {
	case jute.NewConfigNoQuorum:
		return errors.New("not enough of the servers that would vote are there: start them first, each with all servers in its configuration")
	case jute.ReconfigInProgress:
		return errors.New("another change is under way: try again in a moment")
	case jute.BadVersion:
		return errors.New("the configuration has changed meanwhile: look at it again")
	case jute.BadArguments:
		return errors.New("the configuration would not work: a server line is wrong, a port is used twice, or nobody would vote; the leader's log says which")
	case jute.Unimplemented:
		return ensemble.ErrAlone
	}
	return code
}

func (n *Node) serveTransfer(r *http.Request) error {
	var q struct {
		Server uint64 `json:"server"`
	}
	if err := decodeBody(r, &q); err != nil {
		return err
	}
	done := make(chan error, 1)
	n.ensemble.Transfer(q.Server, func(err error) { done <- err })
	return await(done)
}

// decodeBody reads a request's JSON; a field that is not known is an error.
func decodeBody(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

func await(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-time.After(clusterTime):
		return errNoTime
	}
}

// Recover makes the stopped box in a data directory the only voter of its ensemble; see ensemble.Recover.
func Recover(cfg Config, deps Deps) (ensemble.Recovery, error) {
	n := &Node{cfg: cfg, deps: deps, readySoon: make(chan struct{})}
	out, err := func() (out ensemble.Recovery, err error) {
		if _, err := deps.FS.Stat(path.Join(cfg.Data, boxFile)); err != nil {
			return out, fmt.Errorf("%s is not a box's data directory: %w", cfg.Data, err)
		}
		if err := n.openData(); err != nil {
			return out, err
		}
		return ensemble.Recover(n.ensembleConfig(), ensemble.Deps{
			Runtime: deps.Runtime, FS: deps.FS, Syncer: n.syncer, Observer: deps.Observer, Random: deps.Random,
		})
	}()
	return out, errors.Join(err, n.Close())
}
