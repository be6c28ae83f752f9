package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// dialTime is how long a command waits for a server before it says that there is none.
const dialTime = 5 * time.Second

// addBootstrap gives a command the flag that names the Kafka server.
func addBootstrap(c *cobra.Command) {
	c.PersistentFlags().String("bootstrap", envOr("CAIRN_BOOTSTRAP", "127.0.0.1:9092"), "Kafka address host:port, several with commas (or CAIRN_BOOTSTRAP)")
}

// addHTTP gives a command, and those below it, the flag that names a box's console.
func addHTTP(c *cobra.Command) *string {
	return c.PersistentFlags().String("http", envOr("CAIRN_HTTP", "127.0.0.1:9600"), "address host:port of a box's HTTP door (or CAIRN_HTTP)")
}

func envOr(name, value string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return value
}

// kafka connects to the Kafka server that the flags name.
func kafka(c *cobra.Command, opts ...kgo.Opt) (*kgo.Client, error) {
	addresses, _ := c.Flags().GetString("bootstrap")
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(addresses, ",")...),
		kgo.ClientID("cairn-cli"),
		kgo.SoftwareNameAndVersion("cairn", "1"),
		kgo.DialTimeout(dialTime),
		kgo.RetryTimeout(2 * dialTime),
	}, opts...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %s: %w", addresses, err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), dialTime)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, unreachable("Kafka", addresses, "--bootstrap", err)
	}
	return client, nil
}

// admin connects for administration.
func admin(c *cobra.Command) (*kadm.Client, error) {
	client, err := kafka(c)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

// unreachable is the error for a server that does not answer: it says what to do.
func unreachable(what, address, flag string, err error) error {
	var dial *net.OpError
	reason := err
	if errors.As(err, &dial) {
		reason = dial
	}
	return &exitError{exitUnready, fmt.Errorf("no %s answers at %s (%w); start a box with `cairn start`, or name another with %s", what, address, reason, flag)}
}
