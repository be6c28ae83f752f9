package main

import (
	"fmt"
	"log/slog"
	"net"
	"slices"

	"cairn/configs"
	"cairn/engine/node"
)

// joinConfig makes the box one of those that join names.
func joinConfig(nc *node.Config, cfg *configs.Config, log *slog.Logger) error {
	box := cfg.Box
	if box == 0 {
		var err error
		if box, err = ownPlace(cfg.Join, cfg.LinkListen, hostAddresses); err != nil {
			return err
		}
	}
	listen := cfg.LinkListen
	if !cfg.Given("link-listen") { // where the others look for it
		listen = cfg.Join[box-1]
	}
	var err error
	if nc.Ensemble, err = node.EnsembleJoined(cfg.Join, box, listen); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	host, _, _ := net.SplitHostPort(cfg.Join[box-1])
	if nc.Kafka != nil && onLoopback(nc.Kafka.Listen) && !isLoopback(host) {
		log.Warn("Kafka listens on loopback alone, so that clients and tools reach this box's partitions from nowhere else: start it with --lan or --kafka-listen",
			"kafka-listen", nc.Kafka.Listen)
	}
	return nil
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && isLoopback(host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ownPlace finds which address is this box's: its port is that of listen, or the only one there is, and its host is this host's.
func ownPlace(addresses []string, listen string, own func(host string) bool) (int, error) {
	_, listenPort, err := net.SplitHostPort(listen)
	if err != nil {
		return 0, err
	}
	var places []int
	for i, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err == nil && port == listenPort && own(host) {
			places = append(places, i+1)
		}
	}
	if len(places) != 1 {
		return 0, fmt.Errorf("%d of the addresses that join names are this box's (port %s, as link-listen says): say which with --box, from 1 to %d",
			len(places), listenPort, len(addresses))
	}
	return places[0], nil
}

// hostAddresses tells whether a host's name or address is one of this machine's.
func hostAddresses(host string) bool {
	ips, err := net.LookupHost(host)
	if err != nil {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && slices.Contains(ips, n.IP.String())
	})
}
