package fleet

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// sleeper is a program that serves nothing.
func sleeper(seconds string) Program {
	return Program{Name: "sleeper", args: func(string, *Server) []string { return []string{"sleep", seconds} }}
}

func TestEveryServerKnowsTheOthers(t *testing.T) {
	f, err := New(Config{Dir: t.TempDir(), Servers: 3, Program: sleeper("60"), Settings: []string{"snapCount=7"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range f.Servers {
		raw, err := os.ReadFile(s.zooCfg())
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		_, port, _ := strings.Cut(s.Client, ":")
		for _, want := range []string{"server.1=127.0.0.1:", "server.2=127.0.0.1:", "server.3=127.0.0.1:", "clientPort=" + port + "\n", "snapCount=7\n", "forceSync=yes\n"} {
			if strings.Count(text, want) != 1 {
				t.Errorf("server %d: %q is not there once:\n%s", i+1, want, text)
			}
		}
		if id, _ := os.ReadFile(s.Dir + "/data/myid"); strings.TrimSpace(string(id)) != string(rune('1'+i)) {
			t.Errorf("server %d: myid %q", i+1, id)
		}
	}
	if alone, err := New(Config{Dir: t.TempDir(), Servers: 1, Program: sleeper("60")}); err != nil {
		t.Fatal(err)
	} else if raw, _ := os.ReadFile(alone.Servers[0].zooCfg()); strings.Contains(string(raw), "server.") {
		t.Errorf("one server names others:\n%s", raw)
	}
}

func TestAServerThatEndsIsSaid(t *testing.T) {
	f, err := New(Config{Dir: t.TempDir(), Servers: 1, Program: sleeper("nonsense")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f.Start(ctx); err == nil || ctx.Err() != nil {
		t.Fatalf("error %v", err)
	}
}

func TestKillAndCosts(t *testing.T) {
	f, err := New(Config{Dir: t.TempDir(), Servers: 2, Program: sleeper("60")})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Servers {
		if err := s.Spawn(); err != nil {
			t.Fatal(err)
		}
	}
	defer f.Kill()
	if err := f.Servers[0].Spawn(); err == nil {
		t.Fatal("a server was started twice")
	}
	if _, err := f.CPU(); err != nil {
		t.Fatal(err)
	}
	if m, err := f.Memory(); err != nil || m.RSS == 0 || m.PSS == 0 {
		t.Fatalf("memory %+v, error %v", m, err)
	}
	f.Kill()
	for _, s := range f.Servers {
		if s.Running() {
			t.Fatalf("server %d is there after Kill", s.ID)
		}
	}
}

func TestWords(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, len("mntr")))
			_, _ = io.WriteString(c, "zk_version\t3.9\nMode: leader\nzk_znode_count\t17\n")
			c.Close()
		}
	}()
	f := &Fleet{Servers: []*Server{{ID: 1, Client: "127.0.0.1:1"}, {ID: 2, Client: l.Addr().String()}}}
	leader, err := f.Leader()
	if err != nil || leader.ID != 2 {
		t.Fatalf("leader %+v, error %v", leader, err)
	}
	if n, err := leader.Monitor("zk_znode_count"); err != nil || n != 17 {
		t.Fatalf("%v nodes, error %v", n, err)
	}
	if _, err := leader.Monitor("zk_nothing"); err == nil {
		t.Fatal("a missing number passed")
	}
}
