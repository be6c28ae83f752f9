package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// check is one check; path is its own.
type check struct {
	name string
	run  func(s *servers, path string) error
}

var checks = []check{
	{"failover_from_a_follower", failoverFromFollower},
	{"failover_from_the_leader", failoverFromLeader},
	{"failover_to_the_observer", failoverToObserver},
	{"sessions_move_and_close", sessionsMove},
	{"clients_from_the_future", clientsFromTheFuture},
	{"expiry_everywhere", expiryEverywhere},
	{"pipelined_through_a_follower", pipelinedThroughFollower},
	{"pipelined_through_the_observer", pipelinedThroughObserver},
	{"czxid_rises", czxidRises},
	{"reconfig_under_load", reconfigUnderLoad},
	{"reconfigs_that_are_refused", reconfigsRefused},
	{"read_only_servers_send_away_who_did_not_ask", readOnlyRefuses},
}

func main() {
	s, err := dialServers(os.Getenv("ENSEMBLE"))
	if err != nil {
		fmt.Println("FAIL gozookeeper:", err)
		os.Exit(1)
	}
	failed := 0
	for _, c := range checks {
		if only := os.Args[1:]; len(only) > 0 && !slices.Contains(only, c.name) {
			continue
		}
		began := time.Now()
		_, err := s.order("heal")
		if err == nil {
			err = c.run(s, "/go-"+c.name)
		}
		s.leaveAll()
		word := "ok  "
		if err != nil {
			word = "FAIL"
			failed++
		}
		fmt.Printf("%s gozookeeper %s (%.1f s)\n", word, c.name, time.Since(began).Seconds())
		if err != nil {
			fmt.Println("    ", err)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// wait is how long a check waits for something to happen.
const wait = 20 * time.Second

var errTime = errors.New("it did not happen in time")

// until polls.
func until(what string, true func() bool) error {
	for deadline := time.Now().Add(wait); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, errTime)
		}
	}
	return nil
}

// ensure is an error where the condition does not hold.
func ensure(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}
