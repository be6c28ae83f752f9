package node

import (
	"encoding/json"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"cairn/engine/broker/controller"
)

// forwarding is the controller as this box's Kafka door knows it: what a client asks of a box that is not the controller's goes to
// the one that is, as Kafka's brokers do it (KIP-590). Kafka's tools ask a broker about its own settings wherever the controller is.
// What cannot be handed over, because it is longer than a question between boxes may be or nobody answers, is NOT_CONTROLLER, and the
// client looks for the controller itself.
type forwarding struct{ b *broker }

// The requests that are handed over, by the names of Kafka's API.
const (
	forwardCreateTopics     = "CreateTopics"
	forwardDeleteTopics     = "DeleteTopics"
	forwardCreatePartitions = "CreatePartitions"
	forwardAlterConfigs     = "AlterConfigs"
	forwardElectLeaders     = "ElectLeaders"
	forwardReassignments    = "AlterPartitionReassignments"
)

// forwarded is a request on its way, as JSON.
type forwarded struct {
	API  string
	Body json.RawMessage
}

// elected is the answer of ElectLeaders.
type elected struct {
	Results []controller.PartitionResult
	Err     *controller.Error
}

// forward asks this box's controller, and where that is not the one, the box that has it. refusal finds what ended an answer as a
// whole.
func forward[Q, R any](b *broker, api string, q Q, local func(Q, func(R)), refusal func(R) *controller.Error, done func(R)) {
	local(q, func(own R) {
		err := refusal(own)
		if err == nil {
			done(own)
			return
		}
		box, ok := b.elsewhere(err)
		body, jsonErr := json.Marshal(q)
		if !ok || jsonErr != nil {
			done(own)
			return
		}
		b.n.boxes.ask(box, question{What: askForward, Forward: &forwarded{api, body}}, func(r reply, err error) {
			var there R
			if err != nil || json.Unmarshal(r.Forward, &there) != nil {
				done(own)
				return
			}
			done(there)
		})
	})
}

// answerForward takes a request that another box's client has made there.
func (b *broker) answerForward(f *forwarded, done func(reply)) {
	if f == nil {
		done(reply{Code: kerr.InvalidRequest.Code})
		return
	}
	c := b.controller
	switch f.API {
	case forwardCreateTopics:
		takeForwarded(f, c.CreateTopics, done)
	case forwardDeleteTopics:
		takeForwarded(f, c.DeleteTopics, done)
	case forwardCreatePartitions:
		takeForwarded(f, c.CreatePartitions, done)
	case forwardAlterConfigs:
		takeForwarded(f, c.AlterConfigs, done)
	case forwardReassignments:
		takeForwarded(f, c.AlterReassignments, done)
	case forwardElectLeaders:
		takeForwarded(f, electLeaders(c), done)
	default:
		done(reply{Code: kerr.UnsupportedVersion.Code, Message: "this broker does not know the request " + f.API})
	}
}

func takeForwarded[Q, R any](f *forwarded, ask func(Q, func(R)), done func(reply)) {
	var q Q
	if err := json.Unmarshal(f.Body, &q); err != nil {
		done(reply{Code: kerr.InvalidRequest.Code, Message: err.Error()})
		return
	}
	ask(q, func(r R) {
		out, err := json.Marshal(r)
		if err != nil {
			done(reply{Code: kerr.UnknownServerError.Code, Message: err.Error()})
			return
		}
		done(reply{Forward: out})
	})
}

func electLeaders(c *controller.Controller) func(controller.ElectLeaders, func(elected)) {
	return func(q controller.ElectLeaders, done func(elected)) {
		c.ElectLeaders(q, func(results []controller.PartitionResult, err *controller.Error) { done(elected{results, err}) })
	}
}

// first is the error of the first of several results: one that is not the controller refuses all of them alike.
func first[R any](of func(R) *controller.Error) func([]R) *controller.Error {
	return func(results []R) *controller.Error {
		if len(results) == 0 {
			return nil
		}
		return of(results[0])
	}
}

// CreateTopics implements kafkaserver.Controller.
func (f forwarding) CreateTopics(q controller.CreateTopics, done func([]controller.CreatedTopic)) {
	forward(f.b, forwardCreateTopics, q, f.b.controller.CreateTopics, first(func(r controller.CreatedTopic) *controller.Error { return r.Err }), done)
}

// DeleteTopics implements kafkaserver.Controller.
func (f forwarding) DeleteTopics(q controller.DeleteTopics, done func([]controller.DeletedTopic)) {
	forward(f.b, forwardDeleteTopics, q, f.b.controller.DeleteTopics, first(func(r controller.DeletedTopic) *controller.Error { return r.Err }), done)
}

// CreatePartitions implements kafkaserver.Controller.
func (f forwarding) CreatePartitions(q controller.CreatePartitions, done func([]controller.TopicResult)) {
	forward(f.b, forwardCreatePartitions, q, f.b.controller.CreatePartitions, first(func(r controller.TopicResult) *controller.Error { return r.Err }), done)
}

// AlterConfigs implements kafkaserver.Controller.
func (f forwarding) AlterConfigs(q controller.AlterConfigs, done func([]controller.ResourceResult)) {
	forward(f.b, forwardAlterConfigs, q, f.b.controller.AlterConfigs, first(func(r controller.ResourceResult) *controller.Error { return r.Err }), done)
}

// AlterReassignments implements kafkaserver.Controller.
func (f forwarding) AlterReassignments(q controller.AlterReassignments, done func([]controller.PartitionResult)) {
	forward(f.b, forwardReassignments, q, f.b.controller.AlterReassignments, first(func(r controller.PartitionResult) *controller.Error { return r.Err }), done)
}

// ElectLeaders implements kafkaserver.Controller.
func (f forwarding) ElectLeaders(q controller.ElectLeaders, done func([]controller.PartitionResult, *controller.Error)) {
	refusal := func(e elected) *controller.Error {
		if e.Err != nil && errors.Is(e.Err, kerr.NotController) {
			return e.Err
		}
		return first(func(r controller.PartitionResult) *controller.Error { return r.Err })(e.Results)
	}
	forward(f.b, forwardElectLeaders, q, electLeaders(f.b.controller), refusal, func(e elected) { done(e.Results, e.Err) })
}
