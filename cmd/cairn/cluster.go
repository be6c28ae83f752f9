package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cairn/configs"
	"cairn/engine/ensemble"
	"cairn/engine/limits"
	"cairn/engine/node"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/vfs"
)

func clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Look at the servers of an ensemble and change who belongs to it"}
	addHTTP(c)
	group(c)
	c.AddCommand(clusterStatus(), clusterMembers(), clusterAdd(), clusterRole("promote", "participant", "Let observers vote, all at once"),
		clusterRole("demote", "observer", "Let voters observe instead"), clusterRemove(), clusterTransfer(), clusterRebalance(), clusterRecover())
	return c
}

// clusterGet asks a server for the ensemble.
func clusterGet(c *cobra.Command) (ensemble.Cluster, error) {
	var got ensemble.Cluster
	err := clusterCall(c, http.MethodGet, "", nil, &got)
	return got, err
}

// clusterPost asks a server for a change.
func clusterPost(c *cobra.Command, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return clusterCall(c, http.MethodPost, path, b, nil)
}

func clusterCall(c *cobra.Command, method, path string, body []byte, into any) error {
	return consoleCall(c, method, "/cluster"+path, body, into)
}

// consoleCall asks a server's HTTP door.
func consoleCall(c *cobra.Command, method, path string, body []byte, into any) error {
	address, _ := c.Flags().GetString("http")
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return unreachable("cairn's HTTP", address, "--http", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		if into == nil {
			return nil
		}
		return json.Unmarshal(b, into)
	}
	var failed struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(b, &failed) != nil || failed.Error == "" {
		failed.Error = strings.TrimSpace(string(b))
	}
	return errors.New(failed.Error)
}

// clusterRun makes the body of a command that begins with what the ensemble is.
func clusterRun(f func(c *cobra.Command, got ensemble.Cluster, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		got, err := clusterGet(c)
		if err != nil {
			return err
		}
		return f(c, got, args)
	}
}

func clusterStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say whether the ensemble works, and which of its servers do; exit code 1 when it does not", Args: cobra.NoArgs,
		RunE: clusterRun(func(c *cobra.Command, got ensemble.Cluster, _ []string) error {
			if err := printCluster(newPrinter(c), got); err != nil {
				return err
			}
			if got.Trouble != "" {
				return errors.New(got.Trouble)
			}
			return nil
		}),
	}
}

func printCluster(out printer, got ensemble.Cluster) error {
	if out.json {
		return out.object(got)
	}
	voters, alive := 0, 0
	for _, m := range got.Members {
		if m.State == "leader" || m.State == "follower" {
			voters++
			if m.Alive {
				alive++
			}
		}
	}
	if got.Leader != 0 {
		out.line(fmt.Sprintf("server %d leads; %d of %d voters are alive; zxid 0x%x, term %d, rules %d", got.Leader, alive, voters, got.Zxid, got.Term, got.Rules))
	}
	return printMembers(out, got)
}

func clusterMembers() *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "List the servers", Args: cobra.NoArgs,
		RunE: clusterRun(func(c *cobra.Command, got ensemble.Cluster, _ []string) error {
			out := newPrinter(c)
			if out.json {
				for _, m := range got.Members {
					if err := out.object(m); err != nil {
						return err
					}
				}
				return nil
			}
			return printMembers(out, got)
		}),
	}
}

func printMembers(out printer, got ensemble.Cluster) error {
	var rows [][]any
	for _, m := range got.Members {
		behind, alive := "-", "no"
		if m.Behind >= 0 {
			behind = strconv.FormatInt(m.Behind, 10)
		}
		if m.Alive {
			alive = "yes"
		}
		build := m.Build
		if build == "" {
			build = "-"
		}
		rows = append(rows, []any{m.Server, m.Role, m.State, alive, behind, build, m.Peer, m.Client})
	}
	return out.table([]string{"SERVER", "ROLE", "STATE", "ALIVE", "BEHIND", "BUILD", "PEERS AT", "CLIENTS AT"}, rows)
}

func clusterAdd() *cobra.Command {
	return &cobra.Command{
		Use: "add SERVER-LINE…", Short: "Add servers, each as server.N=host:port:port[:role][;client port]; start them first", Args: cobra.MinimumNArgs(1),
		Example: "  cairn cluster add 'server.4=box4:2888:3888:observer;2181'",
		RunE: func(c *cobra.Command, args []string) error {
			return clusterPost(c, "/reconfig", node.Reconfig{Joining: strings.Join(args, ","), Version: -1})
		},
	}
}

// clusterRole changes the role of servers, in one change of the configuration.
func clusterRole(name, role, short string) *cobra.Command {
	return &cobra.Command{
		Use: name + " SERVER…", Short: short, Args: cobra.MinimumNArgs(1), Example: "  cairn cluster " + name + " 4 5",
		RunE: clusterRun(func(c *cobra.Command, got ensemble.Cluster, args []string) error {
			var lines []string
			for _, arg := range args {
				line, err := got.Line(arg, role)
				if err != nil {
					return err
				}
				lines = append(lines, line)
			}
			return clusterPost(c, "/reconfig", node.Reconfig{Joining: strings.Join(lines, ","), Version: got.Version})
		}),
	}
}

func clusterRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove SERVER…", Short: "Remove servers; stop them afterwards", Args: cobra.MinimumNArgs(1), Example: "  cairn cluster remove 4",
		RunE: clusterRun(func(c *cobra.Command, got ensemble.Cluster, args []string) error {
			for _, arg := range args {
				if _, err := got.Line(arg, ""); err != nil {
					return err
				}
			}
			return clusterPost(c, "/reconfig", node.Reconfig{Leaving: strings.Join(args, ","), Version: got.Version})
		}),
	}
}

func clusterTransfer() *cobra.Command {
	return &cobra.Command{
		Use: "transfer SERVER", Short: "Let another voter lead", Args: cobra.ExactArgs(1), Example: "  cairn cluster transfer 2",
		RunE: func(c *cobra.Command, args []string) error {
			server, err := strconv.ParseUint(args[0], 10, 31)
			if err != nil {
				return usage("%q is no server's number", args[0])
			}
			if err := clusterPost(c, "/transfer", map[string]uint64{"server": server}); err != nil {
				return err
			}
			for deadline := time.Now().Add(5 * time.Second); ; {
				got, err := clusterGet(c)
				if err == nil && got.Leader == server {
					newPrinter(c).line(fmt.Sprintf("server %d leads", server))
					return nil
				}
				if time.Now().After(deadline) {
					return fmt.Errorf("server %d leads, and not server %d: %w", got.Leader, server, errors.Join(err, errors.New("it may be away or behind")))
				}
				time.Sleep(20 * time.Millisecond)
			}
		},
	}
}

// recoverWarning is what has to be known before a recovery.
const recoverWarning = `This makes one box the only voter of its ensemble, from what its own disk holds. It is the last resort, for when most of
the voters are lost for good. What they had acknowledged and this disk does not hold is gone, without a trace. If they
still live, or come back with their data, two ensembles go on from one tree, and clients will see both.

Before: stop every box of the ensemble. Choose the one with the newest data (the highest zxid). Afterwards: start it, and
then the others, one by one; each sets its old log aside and joins anew.

If that is what you want, say it with --i-know-that-data-may-be-lost.`

func clusterRecover() *cobra.Command {
	c := &cobra.Command{
		Use: "recover", Short: "The last resort when most voters are lost for good: go on from one stopped box's disk", Args: cobra.NoArgs,
		Long:    recoverWarning,
		Example: "  cairn cluster recover --data /var/lib/cairn --i-know-that-data-may-be-lost",
	}
	data := c.Flags().String("data", configs.Defaults().Data, "the box's data directory")
	sure := c.Flags().Bool("i-know-that-data-may-be-lost", false, "do it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !*sure {
			return usage("%s", recoverWarning)
		}
		wall := clock.System()
		got, err := node.Recover(
			node.Config{Version: version, Data: *data, Limits: limits.Derive(0)},
			node.Deps{Runtime: mailbox.NewThreads(wall), Clock: wall, FS: vfs.OS(), Observer: observe.Discard(), Random: rand.Reader})
		if err != nil {
			return err
		}
		out := newPrinter(c)
		if out.json {
			return out.object(got)
		}
		out.line(fmt.Sprintf("server %d votes alone from now on, with %d znodes, from zxid 0x%x.", got.Box, got.Nodes, got.Zxid))
		if got.Entries > 0 {
			out.line(fmt.Sprintf("%d entries of its log that may not have been acknowledged to anybody were kept.", got.Entries))
		}
		if len(got.ServersAway) > 0 {
			slices.Sort(got.ServersAway)
			out.line(fmt.Sprintf("Start it, and then servers %v: each sets its old log aside and joins anew.", got.ServersAway))
		}
		return nil
	}
	return c
}
