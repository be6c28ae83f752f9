package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cairn/configs"
	"cairn/engine/ensemble/zkserver/zoocfg"
	"cairn/engine/limits"
	"cairn/engine/node"
	"cairn/platform/clock"
	"cairn/platform/heap"
	"cairn/platform/host"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/service"
	"cairn/platform/vfs"
)

func startCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "start", Short: "Start a box: Kafka on :9092, ZooKeeper on :2181, HTTP on :9600", Args: cobra.NoArgs,
		Long: "Start a box. With nothing said it keeps its data in ./cairn-data and listens on loopback. Every flag is also a\n" +
			"key of cairn.toml (--config) and a variable: --data is CAIRN_DATA.",
		Example: "  cairn start\n  cairn start --data /var/lib/cairn --lan\n  cairn start --zoo-cfg /etc/zookeeper/conf/zoo.cfg\n" +
			"  cairn start --lan --join box-1.lan:9601 --join box-2.lan:9601 --join box-3.lan:9601",
	}
	d := configs.Defaults()
	f := c.Flags()
	f.String("config", os.Getenv("CAIRN_CONFIG"), "configuration file in TOML")
	f.String("data", d.Data, "directory of everything that the box keeps")
	f.String("kafka-listen", d.KafkaListen, "address for Kafka clients")
	f.String("kafka-advertise", "", "host:port that Kafka clients are told; default is the address that they came in on")
	f.String("zookeeper-listen", d.ZooKeeperListen, "address for ZooKeeper clients")
	f.String("http-listen", d.HTTPListen, "address for metrics, health and ZooKeeper's admin commands")
	f.StringSlice("join", nil, "host:port of every box of the cluster, this one among them, in the same order on all; repeated or with commas")
	f.Int("box", 0, "which of --join this box is, from 1 on; default is the one whose address is this host's, with the port of --link-listen")
	f.String("link-listen", d.LinkListen, "address for the other boxes of the cluster; default is its own of --join")
	f.Bool("lan", false, "listen on all interfaces where no address is given")
	f.String("zoo-cfg", "", "Apache ZooKeeper's zoo.cfg: the ZooKeeper wing alone, set up by it")
	f.Bool("linearizable-reads", false, "ZooKeeper reads wait for a round among the servers, so that none shows an old value")
	f.String("roles", d.Roles, "what to serve: kafka, zookeeper, or both with a comma")
	f.String("log-level", d.LogLevel, "debug, info, warn or error")
	f.String("memory", "", "how much memory to use, such as 512MiB; default is a share of the host's")
	f.String("clock", "", "trusted: the wall clock is right, retention by time may rely on it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := configuration(c)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		return start(c.Context(), cfg, c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// configuration gathers file, variables and flags, the later ones winning.
func configuration(c *cobra.Command) (*configs.Config, error) {
	cfg := configs.Defaults()
	if name, _ := c.Flags().GetString("config"); name != "" {
		if err := cfg.ReadFile(name); err != nil {
			return nil, err
		}
	}
	if err := cfg.ReadEnvironment(os.Environ()); err != nil {
		return nil, err
	}
	for _, name := range configs.Names() {
		if flag := c.Flags().Lookup(name); flag != nil && flag.Changed {
			value := flag.Value.String()
			if list, ok := flag.Value.(pflag.SliceValue); ok {
				value = strings.Join(list.GetSlice(), ",")
			}
			if err := cfg.Set(name, value); err != nil {
				return nil, err
			}
		}
	}
	return &cfg, cfg.Finish()
}

// timerSlack is half of the shortest sleep that anything here asks for, which is a millisecond.
const timerSlack = 500 * time.Microsecond

// start runs a box until a signal, or until it can serve no more.
func start(ctx context.Context, cfg *configs.Config, out, logs io.Writer) error {
	level, err := cfg.Level()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))
	nodeConfig, err := nodeConfig(cfg, log)
	if err != nil {
		return err
	}
	var keeper *heap.Keeper
	if os.Getenv("GOGC") == "" {
		keeper = heap.Keep(nodeConfig.Limits.GarbageBytesMax)
		defer keeper.Stop()
	}
	if err := host.TimerSlack(timerSlack); err != nil {
		log.Debug("timers keep their slack: a small request costs more", "error", err)
	}
	ctx = service.StopContext(ctx)
	for {
		err := lifetime(ctx, nodeConfig, cfg, keeper, log, out)
		if !errors.Is(err, node.ErrRejoin) || ctx.Err() != nil {
			return err
		}
		log.Warn("starting anew", "reason", err)
	}
}

// lifetime is one box's, from its start to its stop.
func lifetime(ctx context.Context, nodeConfig node.Config, cfg *configs.Config, keeper *heap.Keeper, log *slog.Logger, out io.Writer) error {
	wall := clock.System()
	n, err := node.Open(nodeConfig, node.Deps{
		Runtime: mailbox.NewThreads(wall), Clock: wall, FS: vfs.OS(), Observer: observe.New(log), Random: rand.Reader, Listen: net.Listen,
		Dial: new(net.Dialer).DialContext,
	})
	if err != nil {
		return err
	}
	err = serve(ctx, n, func() {
		greet(out, cfg, n)
		if err := service.Notify("READY=1"); err != nil {
			log.Warn("service manager not told", "error", err)
		}
		keeper.Built()
		heap.Settle()
	})
	log.Info("stopping", "reason", cmp.Or(err, context.Cause(ctx)))
	_ = service.Notify("STOPPING=1") // the manager sees the end of the process anyway
	return errors.Join(err, n.Close())
}

// serve calls ready when the box is. It returns nil at a signal, and the error when the box can serve no more, also
// when that is before it was ready: the service manager starts it anew.
func serve(ctx context.Context, n *node.Node, ready func()) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	soon := n.Ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-soon:
			soon = nil // said once
			ready()
		case <-ticker.C:
			if err := n.Failed(); err != nil {
				return err
			}
		}
	}
}

// nodeConfig turns the settings into what a box is made of.
func nodeConfig(cfg *configs.Config, log *slog.Logger) (node.Config, error) {
	facts, err := host.Read()
	if err != nil {
		return node.Config{}, err
	}
	memory, err := cfg.MemoryBytes()
	if err != nil {
		return node.Config{}, err
	}
	if memory == 0 {
		memory = facts.MemoryBytes / 4 // the rest is the page cache's, and other programs'
	}
	bounds := limits.Derive(memory)
	if err := bounds.Check(); err != nil {
		return node.Config{}, err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(bounds.Memory))
	}
	log.Debug("memory", "bytes", bounds.Memory, "of", facts.MemoryBytes, "from", facts.MemoryFrom, "cpus", facts.CPUs)
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return node.Config{}, err
	}
	nc := node.Config{Version: version, Data: data, HTTP: cfg.HTTPListen, Limits: bounds, CPUs: facts.CPUs, ClockTrusted: cfg.Clock == "trusted"}
	if cfg.ZooCfg != "" {
		return zooConfig(nc, cfg, log)
	}
	if cfg.HasRole(configs.RoleZooKeeper) && cfg.ZooKeeperListen != "" {
		nc.ZooKeeper = &node.ZooKeeper{Listen: cfg.ZooKeeperListen, LinearizableReads: cfg.LinearizableReads}
	}
	if cfg.HasRole(configs.RoleKafka) && cfg.KafkaListen != "" {
		if nc.Kafka, err = kafkaConfig(cfg); err != nil {
			return nc, err
		}
	}
	if len(cfg.Join) > 0 {
		err = joinConfig(&nc, cfg, log)
	}
	return nc, err
}

func kafkaConfig(cfg *configs.Config) (*node.Kafka, error) {
	set, err := cfg.KafkaSettings()
	if err != nil {
		return nil, err
	}
	k := &node.Kafka{Listen: cfg.KafkaListen, Settings: set}
	if cfg.KafkaAdvertise == "" {
		return k, nil
	}
	name, port, err := net.SplitHostPort(cfg.KafkaAdvertise)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	k.AdvertisedHost, k.AdvertisedPort = name, int32(n)
	return k, err
}

// zooConfig sets the ZooKeeper wing up from ZooKeeper's own file. Kafka serves too only where its address was given.
func zooConfig(nc node.Config, cfg *configs.Config, log *slog.Logger) (node.Config, error) {
	file, err := zoocfg.Load(zoocfg.Source{
		File: cfg.ZooCfg, JVMFlags: []string{os.Getenv("SERVER_JVMFLAGS"), os.Getenv("JVMFLAGS")}, ReadFile: os.ReadFile,
	})
	if err != nil {
		return nc, err
	}
	for _, w := range file.Warnings {
		log.Warn(w, "file", cfg.ZooCfg)
	}
	if !cfg.Given("data") {
		nc.Data = filepath.Join(file.DataDir, "cairn")
	}
	if !cfg.Given("http-listen") {
		nc.HTTP = ""
		if file.Admin.Enabled {
			nc.HTTP = file.Admin.Address
		}
	}
	nc.ZooKeeper = &node.ZooKeeper{Listen: file.ClientAddress, File: file, LinearizableReads: cfg.LinearizableReads}
	nc.Ensemble = node.EnsembleFrom(file)
	if cfg.Given("zookeeper-listen") {
		nc.ZooKeeper.Listen = cfg.ZooKeeperListen
	}
	if cfg.Given("kafka-listen") {
		nc.Kafka, err = kafkaConfig(cfg)
	}
	return nc, err
}

// greet says where the box is to be reached and how to try it.
func greet(out io.Writer, cfg *configs.Config, n *node.Node) {
	at := n.Addresses()
	var b strings.Builder
	fmt.Fprintf(&b, "cairn %s is ready.\n", version)
	for _, door := range []struct{ key, name string }{{"kafka", "Kafka"}, {"zookeeper", "ZooKeeper"}, {"http", "HTTP"}} {
		if a := at[door.key]; a != nil {
			fmt.Fprintf(&b, "  %-10s %s\n", door.name, a)
		}
	}
	if at["kafka"] != nil {
		fmt.Fprintf(&b, "Try:\n  cairn produce hello 'first record'\n  cairn consume hello --from start --max 1\n")
	}
	if at["zookeeper"] != nil {
		fmt.Fprintf(&b, "  cairn zk ls /\n")
	}
	for key, a := range at {
		if t, ok := a.(*net.TCPAddr); ok && !t.IP.IsLoopback() {
			fmt.Fprintf(&b, "Note: %s is open to the network without a login.\n", key)
		}
	}
	_, _ = io.WriteString(out, b.String())
}
