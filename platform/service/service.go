// Package service is how the operating system and the process talk: signals come in as one request to stop, and a
// service manager is told when the box is ready and when it stops (sd_notify). Its one goroutine waits for signals and
// ends with the process. It must not know what is being served.
package service

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// StopContext returns a context that is done at the first SIGTERM, SIGINT or SIGHUP. A second signal ends the process at
// once, as an impatient person expects.
func StopContext(parent context.Context) context.Context { return stopContext(parent, os.Exit) }

func stopContext(parent context.Context, exit func(int)) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		cancel(fmt.Errorf("received %v", <-signals))
		<-signals
		exit(130)
	}()
	return ctx
}

// Notify tells the service manager a state such as "READY=1" or "STOPPING=1". It does nothing where there is none.
func Notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
