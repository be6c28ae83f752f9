package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cairn.toml")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLaterSourcesWin(t *testing.T) {
	c := Defaults()
	name := file(t, "data = \"/a\"\nlog-level = \"warn\"\n[kafka]\n\"log.retention.hours\" = 48\nlog.segment.bytes = 1048576\n")
	if err := c.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadEnvironment([]string{"CAIRN_DATA=/b", "HOME=/x", "CAIRN_LAN=true"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Set("http-listen", "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	if c.Data != "/b" || c.LogLevel != "warn" || c.KafkaListen != ":9092" || c.HTTPListen != "127.0.0.1:1" {
		t.Fatalf("%+v", c)
	}
	k, err := c.KafkaSettings()
	if err != nil || k["log.retention.hours"] != "48" || k["log.segment.bytes"] != "1048576" {
		t.Fatalf("%v %v", k, err)
	}
}

func TestBadInputSaysWhatToDo(t *testing.T) {
	read := func(text string) error {
		c := Defaults()
		if err := c.ReadFile(file(t, text)); err != nil {
			return err
		}
		return c.Finish()
	}
	for text, want := range map[string]string{
		"kafka-listn = \"x\"":        `did you mean "kafka-listen"?`,
		"roles = \"kafak\"":          `did you mean "kafka"?`,
		"kafka-listen = \"nine\"":    "want host:port",
		"kafka-listen = \"a:99999\"": "not in 0..65535",
		"kafka-advertise = \"a:0\"":  "cannot come to port 0",
		"memory = \"lots\"":          "512MiB",
		"log-level = \"loud\"":       "want debug, info, warn or error",
		"data = \"\"":                "names no directory",
		"clock = \"maybe\"":          "want trusted",
		"data = 3":                   "incompatible types",
		"completely-different = 1":   "known are",

		"box = 1":                                 "name the addresses of its boxes with join",
		"join = [\"a\"]":                          "want host:port",
		"join = [\":1\"]":                         "where to find the others",
		"join = [\"a:1\", \"b:1\", \"a:1\"]":      "names a:1 twice",
		"join = [\"a:1\", \"b:1\"]\nbox = 3":      "names the boxes 1 to 2",
		"join = [\"a:1\", \"b:1\"]\nbox = 0":      "names the boxes 1 to 2",
		"join = [\"a:1\"]\nlink-listen = \"\"":    "must reach this one",
		"join = [\"a:1\"]\nzoo-cfg = \"zoo.cfg\"": "give one of them",
	} {
		if err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
	c := Defaults()
	if err := c.ReadEnvironment([]string{"CAIRN_HTTP=127.0.0.1:9600", "CAIRN_BOOTSTRAP=b:1"}); err != nil {
		t.Errorf("a variable of another command: %v", err)
	}
	if err := c.ReadEnvironment([]string{"CAIRN_KAFKA=x"}); err == nil || !strings.Contains(err.Error(), "[kafka]") {
		t.Error(err)
	}
	if err := c.ReadEnvironment([]string{"CAIRN_HTP_LISTEN=x"}); err == nil || !strings.Contains(err.Error(), "http-listen") {
		t.Error(err)
	}
}

func TestMemoryBytes(t *testing.T) {
	for text, want := range map[string]uint64{"": 0, "512MiB": 512 << 20, "2GiB": 2 << 30, "100": 100} {
		c := Config{Memory: text}
		if got, err := c.MemoryBytes(); err != nil || got != want {
			t.Errorf("%q: %d %v", text, got, err)
		}
	}
}
