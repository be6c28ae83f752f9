package fleet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cairn/packaging/bench/process"
)

// pollPause is the time between two looks at a server that is starting. It bounds how precisely a start is measured.
const pollPause = 2 * time.Millisecond

// wordTime is how long a server may take to answer a four-letter word.
const wordTime = 5 * time.Second

// Server is one server of a fleet.
type Server struct {
	ID     int    // of its server.N line
	Dir    string // its zoo.cfg, data and log
	Client string // host:port for clients, the same over restarts
	HTTP   string // host:port of cairn's console; nobody listens there with another program

	process.Process
	args []string
	env  []string
}

func (s *Server) zooCfg() string { return filepath.Join(s.Dir, "zoo.cfg") }

// Log is the file with its output.
func (s *Server) Log() string { return filepath.Join(s.Dir, "output.log") }

// Spawn starts it and does not wait for it to serve.
func (s *Server) Spawn() error { return s.Process.Start(s.Log(), s.env, s.args...) }

// Ready waits until it serves: it says what its part is. It fails when ctx ends or the process does.
func (s *Server) Ready(ctx context.Context) error {
	for {
		if s.Mode() != "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("server %d does not serve: %w (see %s)", s.ID, ctx.Err(), s.Log())
		case <-s.Ended():
			return fmt.Errorf("server %d ended while starting: %w", s.ID, s.Exit())
		case <-time.After(pollPause):
		}
	}
}

// Mode is leader, follower, observer or standalone, and empty while it does not serve.
func (s *Server) Mode() string { return Mode(s.Client, wordTime) }

// Mode is what the server at a client address says that it is, as Server.Mode.
func Mode(address string, wait time.Duration) string {
	text, err := Word(address, "srvr", wait)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode)
		}
	}
	return ""
}

// Zxid is the last that it has applied.
func (s *Server) Zxid() (uint64, error) {
	text, err := s.Word("srvr")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if zxid, ok := strings.CutPrefix(line, "Zxid: 0x"); ok {
			return strconv.ParseUint(strings.TrimSpace(zxid), 16, 64)
		}
	}
	return 0, fmt.Errorf("server %d: srvr has no zxid", s.ID)
}

// Word is the answer to a four-letter word.
func (s *Server) Word(word string) (string, error) { return Word(s.Client, word, wordTime) }

// Word asks the server at a client address a four-letter word, and waits that long for each step.
func Word(address, word string, wait time.Duration) (string, error) {
	c, err := net.DialTimeout("tcp", address, wait)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 1<<20))
	return string(answer), err
}

// Monitor is one number of the word mntr.
func (s *Server) Monitor(key string) (float64, error) {
	text, err := s.Word("mntr")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && name == key {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("server %d: mntr has no %s", s.ID, key)
}

// Metrics reads series without labels of cairn's /metrics.
func (s *Server) Metrics(names ...string) (map[string]float64, error) {
	client := http.Client{Timeout: wordTime}
	response, err := client.Get("http://" + s.HTTP + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	found := make(map[string]float64)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			found[name] = number
		}
	}
	for _, name := range names {
		if _, ok := found[name]; !ok {
			return nil, fmt.Errorf("server %d: /metrics has no %s", s.ID, name)
		}
	}
	return found, lines.Err()
}
