// Package loopback finds addresses for servers that tests and benches stop and start again.
package loopback

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// Ports that are tried: below those that a kernel gives to clients by itself (net.ipv4.ip_local_port_range, from 32768 by
// default), so that no connection takes the port of a server while it is down.
const (
	portMin = 12000
	portMax = 32000
)

var last atomic.Uint32

func init() { last.Store(rand.Uint32N(portMax - portMin)) }

// Listen listens on a port of 127.0.0.1 that it has not used before in this process and that nobody has.
func Listen() (net.Listener, error) {
	var refused error
	for range portMax - portMin {
		port := portMin + last.Add(1)%(portMax-portMin)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		if err == nil {
			return l, nil
		}
		refused = err
	}
	return nil, errors.Join(errors.New("no free port on 127.0.0.1"), refused)
}

// Address is one that nobody listened on a moment ago, as host:port.
func Address() (string, error) {
	l, err := Listen()
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
