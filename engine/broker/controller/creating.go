package controller

import "sync"

// autoCreateMax bounds the topics that are being created because clients asked for them.
const autoCreateMax = 256

// creating are the topics that AutoCreate has begun: a client that waits for one asks every 100 ms.
type creating struct {
	mu    sync.Mutex // protects names; nothing is called while it is held
	names map[string]bool
}

// begin reports whether the caller should create the topic: nobody does yet, and not too many are under way.
func (c *creating) begin(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names[name] || len(c.names) >= autoCreateMax {
		return false
	}
	if c.names == nil {
		c.names = map[string]bool{}
	}
	c.names[name] = true
	return true
}

func (c *creating) end(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.names, name)
}
