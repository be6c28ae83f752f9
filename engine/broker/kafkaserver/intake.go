package kafkaserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/engine/broker/wire"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// workFactor times the length of a larger request without records is taken for what it needs to be handled: a
// partition that takes 16 bytes in a Fetch takes some 250 here.
const (
	workFactor = 16
	workFree   = 64 << 10
)

// takeIn reads a frame, checks and decodes it. What it returns is in the queue.
func (c *conn) takeIn(a *api, route wire.Header, length int) (*request, error) {
	s := c.server
	cost := int64(wire.FrameCost(length))
	if !a.records && length > workFree {
		cost += workFactor * int64(length)
	}
	if !s.budget.take(cost, c.ctx.Done()) {
		return nil, errors.New("no memory for the request")
	}
	frame := s.frames.Get(length)
	giveUp := func(err error) (*request, error) {
		s.frames.Put(frame)
		s.budget.give(cost)
		return nil, err
	}
	c.expect(length)
	if _, err := c.reader.Discard(4); err != nil {
		return giveUp(err)
	}
	if err := frame.Fill(c.reader); err != nil {
		return giveUp(fmt.Errorf("read %s of %d bytes: %w", a.name, length, err))
	}
	body, decoded, r, err := c.parse(a, frame)
	if err != nil {
		return giveUp(err)
	}
	if !c.takeDecoded(decoded) {
		return giveUp(fmt.Errorf("no memory to decode %s of %d bytes into %d", a.name, length, decoded))
	}
	cost += decoded
	if err := decode(a, r.body, body); err != nil {
		return giveUp(fmt.Errorf("decode %s version %d: %w", a.name, route.Version, err))
	}
	r.frame, r.frameCost, r.cost, r.arrived = frame, int64(cap(frame.B)), cost, s.deps.Clock.Now().Mono
	c.mu.Lock()
	c.queue = append(c.queue, r)
	c.bytes += r.frameCost
	c.mu.Unlock()
	return r, nil
}

// expect sets the time by which a frame must have arrived, unless it is here already.
func (c *conn) expect(length int) {
	if c.reader.Buffered() < 4+length {
		slow := time.Duration(length/c.server.limits.FrameRateMin) * time.Second
		_ = c.net.SetReadDeadline(time.Now().Add(c.server.limits.FrameTimeout + slow))
	}
}

// parse takes header and body apart and makes the request.
func (c *conn) parse(a *api, frame *wire.Frame) (body []byte, decoded int64, r *request, err error) {
	route := wire.ParseRoute(frame.B)
	h, body, err := wire.ParseHeader(frame.B, a.schema.Flexible(route.Version))
	if err != nil {
		return nil, 0, nil, err
	}
	decoded, err = wire.Prescan(a.schema, h.Version, body, a.borrows)
	if err != nil {
		return nil, 0, nil, err
	}
	r = c.server.newRequest(a)
	r.conn, r.version, r.correlation, r.inline = c, h.Version, h.Correlation, true
	if c.clientID != string(h.ClientID) {
		c.clientID = string(h.ClientID)
	}
	r.clientID = c.clientID
	r.body.SetVersion(h.Version)
	return body, decoded, r, nil
}

// decodeWait is how long a request waits for the memory that it decodes into. It holds its frame meanwhile, so all who
// wait could wait for each other: after this time it is refused and its frame comes free.
const decodeWait = 5 * time.Second

// decodedFree is what a request may decode into without asking: handlers take more than that themselves.
const decodedFree = 64 << 10

func (c *conn) takeDecoded(n int64) bool {
	if n <= decodedFree {
		c.server.budget.force(n)
		return true
	}
	ctx, cancel := context.WithTimeout(c.ctx, decodeWait)
	defer cancel()
	return c.server.budget.takeMore(n, ctx.Done())
}

func decode(a *api, req kmsg.Request, body []byte) error {
	if a.borrows {
		return req.(kmsg.UnsafeReadFrom).UnsafeReadFrom(body)
	}
	return req.ReadFrom(body)
}

// unknownApiVersions answers an ApiVersions of a version from the future: it is not parsed, and answered at version 0
// with error 35 and the list of what is served, from which every client finds its way (KIP-511, RequestContext.java).
func (c *conn) unknownApiVersions(a *api, route wire.Header, length int) error {
	if err := c.waitTurn(a, 0); err != nil {
		return err
	}
	c.expect(length)
	if _, err := c.reader.Discard(4 + length); err != nil {
		return err
	}
	r := &request{conn: c, api: a, version: 0, correlation: route.Correlation, inline: true, arrived: c.server.deps.Clock.Now().Mono}
	c.mu.Lock()
	c.queue = append(c.queue, r)
	c.mu.Unlock()
	r.respond(c.server.apiVersions(codeUnsupportedVersion))
	c.mu.Lock()
	r.inline = false
	c.mu.Unlock()
	c.send()
	return nil
}
