package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// observer is the number of the server that does not vote; 1, 2 and 3 do.
const observer = 4

var voters = []int{1, 2, 3}

// servers gives orders to servers.py, and knows the clients that a check has opened.
type servers struct {
	mu      sync.Mutex // one order at a time
	conn    net.Conn
	answers *bufio.Reader
	address map[int]string
	clients []*client
}

func dialServers(address string) (*servers, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &servers{conn: conn, answers: bufio.NewReader(conn), address: map[int]string{}}
	text, err := s.order("clients")
	for _, word := range strings.Fields(text) {
		number, address, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(number)
		s.address[n] = address
	}
	return s, err
}

func (s *servers) order(words ...any) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := fmt.Fprintln(s.conn, words...); err != nil {
		return "", err
	}
	line, err := s.answers.ReadString('\n')
	if err != nil {
		return "", err
	}
	status, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
	if status != "ok" {
		return "", fmt.Errorf("%v: %s", words, answer)
	}
	return answer, nil
}

// orders gives several, in order.
func (s *servers) orders(all ...[]any) error {
	for _, words := range all {
		if _, err := s.order(words...); err != nil {
			return err
		}
	}
	return nil
}

// roles are the leader and the voters that follow it.
func (s *servers) roles() (leader int, followers []int, err error) {
	text, err := s.order("leader")
	if err != nil {
		return 0, nil, err
	}
	leader, err = strconv.Atoi(text)
	for _, n := range voters {
		if n != leader {
			followers = append(followers, n)
		}
	}
	return leader, followers, err
}
