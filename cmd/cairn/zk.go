package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/spf13/cobra"
)

func zkCommand() *cobra.Command {
	c := &cobra.Command{Use: "zk", Short: "Read and write znodes of a ZooKeeper server"}
	c.PersistentFlags().String("servers", envOr("CAIRN_SERVERS", "127.0.0.1:2181"), "ZooKeeper addresses host:port, several with commas (or CAIRN_SERVERS)")
	c.PersistentFlags().String("auth", "", "user:password of the digest scheme")
	group(c)
	c.AddCommand(zkGet(), zkList(), zkSet(), zkCreate(), zkDelete(), zkStat(), zkWatch())
	return c
}

// zooKeeper connects and waits for a session, so that a server that is not there is said at once.
func zooKeeper(c *cobra.Command) (*zk.Conn, <-chan zk.Event, error) {
	addresses, _ := c.Flags().GetString("servers")
	dialer := func(network, address string, _ time.Duration) (net.Conn, error) {
		return net.DialTimeout(network, address, dialTime)
	}
	conn, events, err := zk.Connect(strings.Split(addresses, ","), 10*time.Second, zk.WithLogInfo(false), zk.WithDialer(dialer), zk.WithLogger(silent{}))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to ZooKeeper at %s: %w", addresses, err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), dialTime)
	defer cancel()
	for {
		select {
		case e := <-events:
			if e.State != zk.StateHasSession {
				continue
			}
			if auth, _ := c.Flags().GetString("auth"); auth != "" {
				if err := conn.AddAuth("digest", []byte(auth)); err != nil {
					conn.Close()
					return nil, nil, fmt.Errorf("authenticate: %w", err)
				}
			}
			return conn, events, nil
		case <-ctx.Done():
			conn.Close()
			return nil, nil, unreachable("ZooKeeper", addresses, "--servers", errors.New("no session within "+dialTime.String()))
		}
	}
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// zkRun makes the body of a command that needs a connection.
func zkRun(f func(c *cobra.Command, conn *zk.Conn, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		conn, _, err := zooKeeper(c)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := f(c, conn, args); err != nil {
			return fmt.Errorf("%s %s: %w", c.Name(), args[0], err)
		}
		return nil
	}
}

func zkGet() *cobra.Command {
	return &cobra.Command{
		Use: "get PATH", Short: "Print a znode's data", Args: cobra.ExactArgs(1),
		RunE: zkRun(func(c *cobra.Command, conn *zk.Conn, args []string) error {
			data, stat, err := conn.Get(args[0])
			if err != nil {
				return err
			}
			out := newPrinter(c)
			if out.json {
				return out.object(map[string]any{"path": args[0], "data": string(data), "version": stat.Version})
			}
			out.line(string(data))
			return nil
		}),
	}
}

func zkList() *cobra.Command {
	c := &cobra.Command{Use: "ls PATH", Short: "List a znode's children", Args: cobra.ExactArgs(1)}
	recursive := c.Flags().BoolP("recursive", "r", false, "list all descendants")
	c.RunE = zkRun(func(c *cobra.Command, conn *zk.Conn, args []string) error {
		return listZnodes(newPrinter(c), conn, strings.TrimSuffix(args[0], "/"), *recursive)
	})
	return c
}

func listZnodes(out printer, conn *zk.Conn, path string, recursive bool) error {
	names, _, err := conn.Children(orRoot(path))
	if err != nil {
		return err
	}
	for _, name := range names {
		child := path + "/" + name
		shown := name
		if recursive {
			shown = child
		}
		out.line(shown)
		if out.json {
			_ = out.object(map[string]any{"path": child})
		}
		if !recursive {
			continue
		}
		if err := listZnodes(out, conn, child, true); err != nil && !errors.Is(err, zk.ErrNoNode) && !errors.Is(err, zk.ErrNoAuth) {
			return err
		}
	}
	return nil
}

func orRoot(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

func zkSet() *cobra.Command {
	c := &cobra.Command{Use: "set PATH DATA", Short: "Replace a znode's data", Args: cobra.ExactArgs(2)}
	version := c.Flags().Int32("version", -1, "only if the znode has this version")
	c.RunE = zkRun(func(c *cobra.Command, conn *zk.Conn, args []string) error {
		stat, err := conn.Set(args[0], []byte(args[1]), *version)
		if err != nil {
			return err
		}
		return printStat(newPrinter(c), args[0], stat)
	})
	return c
}

func zkCreate() *cobra.Command {
	c := &cobra.Command{Use: "create PATH [DATA]", Short: "Create a znode", Args: cobra.RangeArgs(1, 2)}
	sequence := c.Flags().BoolP("sequential", "s", false, "append a number that the server counts")
	parents := c.Flags().BoolP("parents", "p", false, "create missing parents")
	c.RunE = zkRun(func(c *cobra.Command, conn *zk.Conn, args []string) error {
		var data []byte
		if len(args) == 2 {
			data = []byte(args[1])
		}
		if *parents {
			for i, r := range args[0] {
				if r != '/' || i == 0 {
					continue
				}
				if _, err := conn.Create(args[0][:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
					return err
				}
			}
		}
		flags := int32(0)
		if *sequence {
			flags = zk.FlagSequence
		}
		path, err := conn.Create(args[0], data, flags, zk.WorldACL(zk.PermAll))
		if err != nil {
			return err
		}
		out := newPrinter(c)
		out.line(path)
		if out.json {
			return out.object(map[string]any{"path": path})
		}
		return nil
	})
	return c
}

func zkDelete() *cobra.Command {
	c := &cobra.Command{Use: "rm PATH", Short: "Delete a znode", Args: cobra.ExactArgs(1)}
	recursive := c.Flags().BoolP("recursive", "r", false, "delete its descendants too")
	c.RunE = zkRun(func(_ *cobra.Command, conn *zk.Conn, args []string) error {
		if *recursive {
			return deleteBelow(conn, args[0])
		}
		return conn.Delete(args[0], -1)
	})
	return c
}

func deleteBelow(conn *zk.Conn, path string) error {
	names, _, err := conn.Children(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := deleteBelow(conn, strings.TrimSuffix(path, "/")+"/"+name); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
	if path == "/" {
		return nil
	}
	return conn.Delete(path, -1)
}

func zkStat() *cobra.Command {
	return &cobra.Command{
		Use: "stat PATH", Short: "Show a znode's versions, times and owner", Args: cobra.ExactArgs(1),
		RunE: zkRun(func(c *cobra.Command, conn *zk.Conn, args []string) error {
			ok, stat, err := conn.Exists(args[0])
			if err == nil && !ok {
				err = zk.ErrNoNode
			}
			if err != nil {
				return err
			}
			return printStat(newPrinter(c), args[0], stat)
		}),
	}
}

func printStat(out printer, path string, s *zk.Stat) error {
	return out.table([]string{"PATH", "VERSION", "CHILDREN", "BYTES", "CREATED", "MODIFIED", "CZXID", "MZXID", "OWNER"}, [][]any{{
		path, s.Version, s.NumChildren, s.DataLength,
		time.UnixMilli(s.Ctime).UTC().Format(time.RFC3339), time.UnixMilli(s.Mtime).UTC().Format(time.RFC3339),
		fmt.Sprintf("0x%x", s.Czxid), fmt.Sprintf("0x%x", s.Mzxid), fmt.Sprintf("0x%x", s.EphemeralOwner),
	}})
}

func zkWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch PATH", Short: "Print what happens to a znode and its children until interrupted", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			conn, _, err := zooKeeper(c)
			if err != nil {
				return err
			}
			defer conn.Close()
			return watchZnode(newPrinter(c), conn, args[0])
		},
	}
}

// watchZnode prints what happens to a znode and its list of children. One-shot watches are armed again after each event.
func watchZnode(out printer, conn *zk.Conn, path string) error {
	for {
		_, _, changed, err := conn.ExistsW(path)
		if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		_, _, children, err := conn.ChildrenW(path)
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		var e zk.Event
		select {
		case e = <-changed:
		case e = <-children:
		}
		if e.Err != nil || e.Type == zk.EventNotWatching {
			return fmt.Errorf("watch %s ended: connection lost", path)
		}
		out.line(fmt.Sprintf("%s %s", e.Type, e.Path))
		if out.json {
			_ = out.object(map[string]any{"event": e.Type.String(), "path": e.Path})
		}
	}
}
