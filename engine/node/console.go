package node

import (
	"encoding/json"
	"fmt"
	"net/http"

	"cairn/engine/console"
	"cairn/platform/observe"
)

// openConsole opens the HTTP door with the sections of the rooms that are open.
func (n *Node) openConsole() error {
	if n.cfg.HTTP == "" {
		return nil
	}
	l, err := n.deps.Listen("tcp", n.cfg.HTTP)
	if err != nil {
		return &ListenError{"http-listen", n.cfg.HTTP, err}
	}
	sections := []console.Section{
		{Path: "/metrics", Title: "metrics in Prometheus's format", Handler: http.HandlerFunc(n.serveMetrics)},
		{Path: "/healthz", Title: "200 while the process works, 503 when it must be restarted", Handler: http.HandlerFunc(n.serveHealth)},
		{Path: "/readyz", Title: "200 when clients are served", Handler: http.HandlerFunc(n.serveReady)},
	}
	sections = append(sections, n.clusterSections()...)
	sections = append(sections, n.rebalanceSections()...)
	if n.zookeeper != nil {
		h := n.zookeeper.Admin()
		sections = append(sections,
			console.Section{Path: "/commands", Title: "ZooKeeper's AdminServer commands", Handler: h},
			console.Section{Path: "/commands/", Handler: h})
		for _, name := range []string{"snapshot", "snap", "restore", "rest"} {
			sections = append(sections, console.Section{
				Path: "/commands/" + name, Handler: h, StreamBytesMax: n.carrier.uploadBytesMax(),
			})
		}
	}
	n.console = console.Serve(l, sections)
	n.closes("console", n.console.Close)
	return nil
}

func (n *Node) serveMetrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	n.deps.Observer.Metrics.Write(w)
	if n.broker != nil {
		n.broker.writeMetrics(r.Context(), w)
	}
	if n.zookeeper != nil {
		n.zookeeper.WriteMetrics(w)
	}
	observe.WriteProcess(w)
}

func (n *Node) serveHealth(w http.ResponseWriter, _ *http.Request) { answer(w, n.Failed()) }

func (n *Node) serveReady(w http.ResponseWriter, _ *http.Request) {
	err := n.Failed()
	if err == nil && !n.ready.Load() {
		err = errStarting
	}
	answer(w, err)
}

var errStarting = fmt.Errorf("the box is starting")

func answer(w http.ResponseWriter, err error) { answerStatus(w, err, http.StatusServiceUnavailable) }

// answerStatus says that all is well, or what is not, with a status of its own.
func answerStatus(w http.ResponseWriter, err error, failed int) {
	w.Header().Set("Content-Type", "application/json")
	body := struct {
		OK    bool   `json:"ok"`
		Error string `json:"error,omitempty"`
	}{OK: err == nil}
	if err != nil {
		body.Error = err.Error()
		w.WriteHeader(failed)
	}
	_ = json.NewEncoder(w).Encode(body) // the client has gone if it fails
}
