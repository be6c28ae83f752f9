package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cairn/packaging/bench/measure"
	"cairn/platform/loopback"
)

// Config says what to run.
type Config struct {
	// Dir holds everything: a directory for each server below it.
	Dir string
	// Servers is how many there are: 1, or an ensemble.
	Servers int
	// Program is the command that gets the name of a zoo.cfg as its last argument; see Cairn and ZooKeeper.
	Program Program
	// Settings are further lines of every zoo.cfg.
	Settings []string
	// Env are further variables of every server.
	Env []string
}

// Program is what kind of server is run.
type Program struct {
	Name string // for people
	// args makes the command line of a server.
	args func(zooCfg string, s *Server) []string
}

// Cairn runs `cairn start --zoo-cfg`, with these further flags.
func Cairn(binary string, flags ...string) Program {
	return Program{Name: "cairn", args: func(zooCfg string, s *Server) []string {
		return append([]string{binary, "start", "--http-listen", s.HTTP, "--zoo-cfg", zooCfg}, flags...)
	}}
}

// ZooKeeper runs Apache ZooKeeper from its jars, with these flags of the JVM.
func ZooKeeper(classpath string, flags ...string) Program {
	return Program{Name: "ZooKeeper", args: func(zooCfg string, _ *Server) []string {
		args := append([]string{"java"}, flags...)
		return append(args, "-cp", classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain", zooCfg)
	}}
}

// Fleet is a number of servers that are one ensemble.
type Fleet struct {
	Name    string // of the program
	Servers []*Server
}

// New writes the configurations and starts nothing.
func New(cfg Config) (*Fleet, error) {
	f := &Fleet{Name: cfg.Program.Name}
	var members []string
	for id := 1; id <= cfg.Servers; id++ {
		s := &Server{ID: id, Dir: filepath.Join(cfg.Dir, fmt.Sprintf("server-%d", id)), env: cfg.Env}
		var peer, election string
		for _, address := range []*string{&s.Client, &s.HTTP, &peer, &election} {
			free, err := loopback.Address()
			if err != nil {
				return nil, err
			}
			*address = free
		}
		members = append(members, fmt.Sprintf("server.%d=%s:%s", id, peer, election[strings.LastIndexByte(election, ':')+1:]))
		s.args = cfg.Program.args(s.zooCfg(), s)
		f.Servers = append(f.Servers, s)
	}
	if cfg.Servers == 1 {
		members = nil
	}
	for _, s := range f.Servers {
		if err := s.write(append(members, cfg.Settings...)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Start starts every server and waits until all of them serve.
func (f *Fleet) Start(ctx context.Context) error {
	for _, s := range f.Servers {
		if err := s.Spawn(); err != nil {
			return err
		}
	}
	return f.Ready(ctx)
}

// Ready waits until every server serves.
func (f *Fleet) Ready(ctx context.Context) error {
	for _, s := range f.Servers {
		if err := s.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends every server at once.
func (f *Fleet) Kill() {
	for _, s := range f.Servers {
		s.Kill()
	}
}

// Addresses are the servers' doors for clients.
func (f *Fleet) Addresses() []string {
	var all []string
	for _, s := range f.Servers {
		all = append(all, s.Client)
	}
	return all
}

// Leader is the server that leads, or the only one.
func (f *Fleet) Leader() (*Server, error) {
	for _, s := range f.Servers {
		if mode := s.Mode(); mode == "leader" || mode == "standalone" {
			return s, nil
		}
	}
	return nil, errors.New("no server leads")
}

// CPU is the processor time that all servers have used.
func (f *Fleet) CPU() (time.Duration, error) {
	var sum time.Duration
	for _, s := range f.Servers {
		one, err := measure.CPU(s.PID())
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// Memory is what all servers have resident. Pages that they share are counted once for each.
func (f *Fleet) Memory() (measure.Memory, error) {
	var sum measure.Memory
	for _, s := range f.Servers {
		one, err := measure.ResidentMemory(s.PID())
		if err != nil {
			return sum, err
		}
		sum.RSS += one.RSS
		sum.Anon += one.Anon
		sum.File += one.File
		sum.PSS += one.PSS
		sum.Peak += one.Peak
	}
	return sum, nil
}

// Written is what all servers have sent towards the disk, by the kernel's account of pages that they made dirty.
func (f *Fleet) Written() (uint64, error) {
	var sum uint64
	for _, s := range f.Servers {
		one, err := measure.WriteBytes(s.PID())
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// write writes a server's zoo.cfg and myid.
func (s *Server) write(more []string) error {
	data := filepath.Join(s.Dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	host, port, _ := strings.Cut(s.Client, ":")
	lines := append([]string{
		"tickTime=2000", "initLimit=10", "syncLimit=5", "dataDir=" + data, "clientPortAddress=" + host, "clientPort=" + port,
		"maxClientCnxns=0", "admin.enableServer=false", "4lw.commands.whitelist=*", "forceSync=yes",
	}, more...)
	if err := os.WriteFile(s.zooCfg(), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(data, "myid"), []byte(fmt.Sprintln(s.ID)), 0o644)
}
