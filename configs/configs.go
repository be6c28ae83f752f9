// Package configs is the one tree of settings of a box: defaults, then cairn.toml, then CAIRN_* variables, then flags.
// It reads and checks; it applies nothing. An unknown key is an error that names the nearest known one.
package configs

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Config is everything that can be said about a box. The toml names are also the flags' names and, in capitals with
// CAIRN_ before and _ for -, the variables'.
type Config struct {
	// Data is the directory that holds everything the box keeps.
	Data string `toml:"data"`
	// KafkaListen, ZooKeeperListen and HTTPListen are the addresses host:port of the three doors. An empty host is all
	// interfaces; an empty address closes the door.
	KafkaListen     string `toml:"kafka-listen"`
	ZooKeeperListen string `toml:"zookeeper-listen"`
	HTTPListen      string `toml:"http-listen"`
	// KafkaAdvertise is the host:port that Kafka clients are told to come to. Empty: the address that they came in on.
	KafkaAdvertise string `toml:"kafka-advertise"`
	// Lan opens the doors that were not given an address on all interfaces instead of loopback.
	Lan bool `toml:"lan"`
	// ZooCfg is a zoo.cfg of Apache ZooKeeper: the ZooKeeper wing alone, set up by it.
	ZooCfg string `toml:"zoo-cfg"`
	// Join are the addresses host:port of the boxes of a cluster, this one among them, in the same order on all of them. Empty:
	// the box is alone.
	Join []string `toml:"join"`
	// LinkListen is the address for the other boxes of the cluster.
	LinkListen string `toml:"link-listen"`
	// Box says which of Join this is, from 1 on; 0: the one whose address is this host's, with LinkListen's port.
	Box int `toml:"box"`
	// LinearizableReads makes every read of a ZooKeeper client wait for a round among the servers.
	LinearizableReads bool `toml:"linearizable-reads"`
	// Roles are the wings that serve: kafka, zookeeper, or both with a comma.
	Roles string `toml:"roles"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `toml:"log-level"`
	// Memory is how much the process may use, such as 512MiB. Empty: a share of the cgroup's or the host's memory.
	Memory string `toml:"memory"`
	// Clock says "trusted" where the operator vouches for the wall clock, so that retention by time needs no proof.
	Clock string `toml:"clock"`
	// Kafka are broker settings by Kafka's own names, such as log.retention.hours.
	Kafka map[string]any `toml:"kafka"`

	given map[string]bool // keys that somebody has set
}

// The doors' ports, those of Kafka and ZooKeeper, and cairn's own.
const (
	kafkaPort     = "9092"
	zookeeperPort = "2181"
	httpPort      = "9600"
	linkPort      = "9601"
)

// Roles of a box.
const (
	RoleKafka     = "kafka"
	RoleZooKeeper = "zookeeper"
)

// Defaults are the settings of `cairn start` with nothing said.
func Defaults() Config {
	return Config{
		Data:            "cairn-data",
		KafkaListen:     "127.0.0.1:" + kafkaPort,
		ZooKeeperListen: "127.0.0.1:" + zookeeperPort,
		HTTPListen:      "127.0.0.1:" + httpPort,
		LinkListen:      "127.0.0.1:" + linkPort,
		Roles:           RoleKafka + "," + RoleZooKeeper,
		LogLevel:        "info",
		given:           map[string]bool{},
	}
}

// strings are the settings that are one word, by name.
func (c *Config) strings() map[string]*string {
	return map[string]*string{
		"data": &c.Data, "kafka-listen": &c.KafkaListen, "zookeeper-listen": &c.ZooKeeperListen, "http-listen": &c.HTTPListen,
		"kafka-advertise": &c.KafkaAdvertise, "zoo-cfg": &c.ZooCfg, "roles": &c.Roles, "log-level": &c.LogLevel,
		"memory": &c.Memory, "clock": &c.Clock, "link-listen": &c.LinkListen,
	}
}

// switches are the settings that are true or false, by name.
func (c *Config) switches() map[string]*bool {
	return map[string]*bool{"lan": &c.Lan, "linearizable-reads": &c.LinearizableReads}
}

// Names are the names of all settings, sorted.
func Names() []string {
	c := Defaults()
	names := slices.AppendSeq(slices.Collect(maps.Keys(c.strings())), maps.Keys(c.switches()))
	names = append(names, "kafka", "join", "box")
	slices.Sort(names)
	return names
}

// Given reports whether a setting was set by a file, a variable or a flag.
func (c *Config) Given(name string) bool { return c.given[name] }

// Set sets one setting from its text, as a flag or a variable does.
func (c *Config) Set(name, value string) error {
	if p, ok := c.strings()[name]; ok {
		*p = value
		c.given[name] = true
		return nil
	}
	if name == "box" {
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("box is %q, want the number of this box among those that join names, from 1 on", value)
		}
		c.Box, c.given[name] = n, true
		return nil
	}
	if name == "join" {
		c.Join = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
		c.given[name] = true
		return nil
	}
	if name == "kafka" {
		return errors.New("kafka is a table of broker settings: say it in the configuration file, as [kafka]")
	}
	p, ok := c.switches()[name]
	if !ok {
		return unknown("setting", name, Names())
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("%s is %q, want true or false", name, value)
	}
	*p = on
	c.given[name] = true
	return nil
}

// ReadFile takes what a cairn.toml says.
func (c *Config) ReadFile(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	meta, err := toml.Decode(string(text), c)
	if err != nil {
		return fmt.Errorf("configuration file %s: %w", name, err)
	}
	for _, key := range meta.Undecoded() {
		if key[0] == "kafka" {
			continue // free names, checked by the broker's own registry
		}
		return fmt.Errorf("configuration file %s: %w", name, unknown("setting", key.String(), Names()))
	}
	for _, key := range meta.Keys() {
		c.given[key[0]] = true
	}
	return nil
}

// ReadEnvironment takes the CAIRN_* variables; environ is os.Environ's form.
func (c *Config) ReadEnvironment(environ []string) error {
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		rest, ok := strings.CutPrefix(key, "CAIRN_")
		if !ok {
			continue
		}
		name := strings.ReplaceAll(strings.ToLower(rest), "_", "-")
		if name == "config" || name == "bootstrap" || name == "servers" || name == "http" || name == "auth" {
			continue // read by the commands themselves
		}
		if err := c.Set(name, value); err != nil {
			return fmt.Errorf("variable %s: %w", key, err)
		}
	}
	return nil
}

// Finish applies what follows from other settings and checks the whole.
func (c *Config) Finish() error {
	if c.Lan {
		for name, port := range map[string]string{"kafka-listen": kafkaPort, "zookeeper-listen": zookeeperPort, "http-listen": httpPort, "link-listen": linkPort} {
			if !c.given[name] {
				*c.strings()[name] = ":" + port
			}
		}
	}
	for _, name := range []string{"kafka-listen", "zookeeper-listen", "http-listen", "link-listen", "kafka-advertise"} {
		if err := checkAddress(name, *c.strings()[name]); err != nil {
			return err
		}
	}
	if err := c.checkJoin(); err != nil {
		return err
	}
	for _, role := range strings.Split(c.Roles, ",") {
		if role != RoleKafka && role != RoleZooKeeper {
			return fmt.Errorf("roles: %w", unknown("role", role, []string{RoleKafka, RoleZooKeeper}))
		}
	}
	if c.Data == "" {
		return errors.New("data names no directory")
	}
	if c.Clock != "" && c.Clock != "trusted" {
		return fmt.Errorf("clock is %q, want trusted or nothing", c.Clock)
	}
	if _, err := c.MemoryBytes(); err != nil {
		return err
	}
	_, err := c.Level()
	return err
}

// JoinMax is how many boxes make a cluster at most.
const JoinMax = 254

func (c *Config) checkJoin() error {
	switch {
	case len(c.Join) == 0 && (c.given["box"] || c.given["link-listen"]):
		return errors.New("box and link-listen are for a cluster: name the addresses of its boxes with join")
	case len(c.Join) == 0:
		return nil
	case c.ZooCfg != "":
		return errors.New("join and zoo-cfg both say who belongs to the cluster: give one of them")
	case len(c.Join) > JoinMax:
		return fmt.Errorf("join names %d boxes, and a cluster has %d at most", len(c.Join), JoinMax)
	case c.Box < 0 || c.Box > len(c.Join) || c.given["box"] && c.Box == 0:
		return fmt.Errorf("box is %d, and join names the boxes 1 to %d", c.Box, len(c.Join))
	case c.LinkListen == "":
		return errors.New("link-listen is empty: the other boxes of the cluster must reach this one")
	}
	for i, address := range c.Join {
		if err := checkAddress("join", address); err != nil {
			return err
		}
		if host, port, _ := net.SplitHostPort(address); host == "" || port == "0" {
			return fmt.Errorf("join names %q: every box must know where to find the others, want host:port", address)
		}
		if slices.Contains(c.Join[:i], address) {
			return fmt.Errorf("join names %s twice", address)
		}
	}
	return nil
}

// HasRole reports whether a wing serves.
func (c *Config) HasRole(role string) bool { return slices.Contains(strings.Split(c.Roles, ","), role) }

// Level is the log level.
func (c *Config) Level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return l, fmt.Errorf("log-level is %q, want debug, info, warn or error", c.LogLevel)
	}
	return l, nil
}

// MemoryBytes is what memory says, or 0 where it says nothing.
func (c *Config) MemoryBytes() (uint64, error) {
	if c.Memory == "" {
		return 0, nil
	}
	units := []struct {
		suffix string
		factor uint64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}
	for _, u := range units {
		number, ok := strings.CutSuffix(c.Memory, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
		if err == nil && n > 0 && n <= math.MaxInt64/u.factor {
			return n * u.factor, nil
		}
		break
	}
	return 0, fmt.Errorf("memory is %q, want a size such as 512MiB", c.Memory)
}

// KafkaSettings are the broker settings as texts, by Kafka's names. Tables of a TOML file that spell the dots as
// nesting are put together again.
func (c *Config) KafkaSettings() (map[string]string, error) {
	out := map[string]string{}
	return out, flatten(out, "", c.Kafka)
}

func flatten(out map[string]string, prefix string, in map[string]any) error {
	for key, value := range in {
		name := prefix + key
		switch v := value.(type) {
		case map[string]any:
			if err := flatten(out, name+".", v); err != nil {
				return err
			}
		case string:
			out[name] = v
		case bool, int64, float64:
			out[name] = fmt.Sprint(v)
		default:
			return fmt.Errorf("kafka setting %s is a %T, want a text, a number or a truth value", name, value)
		}
	}
	return nil
}

func checkAddress(name, address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s is %q, want host:port: %w", name, address, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s is %q: port %q is not in 0..65535", name, address, port)
	} else if n == 0 && name == "kafka-advertise" {
		return fmt.Errorf("%s is %q: clients cannot come to port 0", name, address)
	}
	return nil
}

// unknown is the error for a name that is not known; it names the nearest one that is.
func unknown(what, name string, known []string) error {
	best, distance := "", len(name)/2+2
	for _, k := range known {
		if d := edits(name, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return fmt.Errorf("unknown %s %q; known are %s", what, name, strings.Join(known, ", "))
	}
	return fmt.Errorf("unknown %s %q; did you mean %q?", what, name, best)
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
