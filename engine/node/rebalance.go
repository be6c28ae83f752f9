package node

import (
	"errors"
	"net/http"

	"cairn/engine/broker/controller"
	"cairn/engine/console"
)

// rebalanceSections are the console's part about what the brokers do by themselves with replicas and leaders: to look at for
// everybody who reaches it, to pause from this machine alone.
func (n *Node) rebalanceSections() []console.Section {
	if n.broker == nil {
		return nil
	}
	control := func(pause bool) http.Handler {
		return fromHere(func(*http.Request) error {
			done := make(chan error, 1)
			n.broker.controlRebalance(controller.RebalanceControl{Pause: pause}, func(err error) { done <- err })
			return await(done)
		})
	}
	return []console.Section{
		{Path: "/rebalance", Title: "replicas that move between boxes, and why others do not", Handler: http.HandlerFunc(n.serveRebalance)},
		{Path: "/rebalance/pause", Handler: control(true)},
		{Path: "/rebalance/resume", Handler: control(false)},
	}
}

func (n *Node) serveRebalance(w http.ResponseWriter, _ *http.Request) {
	show(w, n.broker.rebalanceStatus)
}

// controlRebalance is controller.ControlRebalance, on whichever box is the controller.
func (b *broker) controlRebalance(req controller.RebalanceControl, done func(error)) {
	b.controller.ControlRebalance(req, func(err error) {
		if box, ok := b.elsewhere(err); ok {
			b.n.boxes.ask(box, question{What: askRebalance, Rebalance: &req}, func(_ reply, err error) { done(err) })
			return
		}
		done(err)
	})
}

// rebalanceStatus is controller.RebalanceStatus, on whichever box is the controller.
func (b *broker) rebalanceStatus(done func(controller.RebalanceStatus, error)) {
	b.controller.RebalanceStatus(func(status controller.RebalanceStatus, err error) {
		box, ok := b.elsewhere(err)
		if !ok {
			done(status, err)
			return
		}
		b.n.boxes.ask(box, question{What: askRebalance}, func(r reply, err error) {
			switch {
			case err != nil:
				done(status, err)
			case r.Rebalance == nil:
				done(status, errors.New("the controller has not answered the question"))
			default:
				done(*r.Rebalance, nil)
			}
		})
	})
}

// answerRebalance answers another box's question: what is, or with a control that something be done.
func (b *broker) answerRebalance(req *controller.RebalanceControl, done func(reply)) {
	if req != nil {
		b.controller.ControlRebalance(*req, func(err error) {
			var r reply
			r.Code, r.Message = codeOf(err)
			done(r)
		})
		return
	}
	b.controller.RebalanceStatus(func(status controller.RebalanceStatus, err error) {
		r := reply{Rebalance: &status}
		r.Code, r.Message = codeOf(err)
		done(r)
	})
}
