package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"

	"github.com/spf13/cobra"

	"cairn/configs"
	"cairn/engine/ensemble/carry"
	"cairn/engine/ensemble/zkdata"
	"cairn/engine/ensemble/znode"
	"cairn/engine/node"
	"cairn/platform/clock"
	"cairn/platform/mailbox"
	"cairn/platform/observe"
	"cairn/platform/vfs"
)

func restoreCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "restore FILE | --from-zookeeper DIR", Short: "Bring znodes back from a backup, or in from an Apache ZooKeeper",
		Args: cobra.MaximumNArgs(1),
		Long: "Put the znodes of a backup, of a snapshot of ZooKeeper, or of the data directory of a ZooKeeper 3.8 or 3.9 that does not\n" +
			"run, into the place of those that are there: all or nothing, on all boxes at once. Without --data it goes to a running box,\n" +
			"and all sessions of clients end with it. With --data it goes to a box that does not run and has no znodes yet.\n" +
			"/cairn is never touched; ephemerals, sessions and /zookeeper/config are not brought in.",
		Example: "  cairn restore /backup/tree.cairn\n  cairn restore --data /var/lib/cairn /backup/tree.cairn\n" +
			"  cairn restore --from-zookeeper /var/lib/zookeeper --data /var/lib/cairn",
	}
	addCarryFlags(c)
	data := c.Flags().String("data", "", "data directory of a box that does not run")
	from := c.Flags().String("from-zookeeper", "", "dataDir of a ZooKeeper that does not run")
	logs := c.Flags().String("zookeeper-logs", "", "its dataLogDir, if it has one")
	memory := c.Flags().String("memory", "", "how much memory the box may use, such as 512MiB, with --data; default is a share of the host's")
	c.RunE = func(c *cobra.Command, args []string) error {
		if (len(args) == 1) == (*from != "") || *logs != "" && *from == "" {
			return usage("give a file, or a ZooKeeper's data directory with --from-zookeeper (and --zookeeper-logs)")
		}
		r := &restoring{c: c, data: *data, from: *from, logs: *logs, memory: *memory}
		if len(args) == 1 {
			r.file = args[0]
		}
		if err := r.run(); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		return nil
	}
	return c
}

// restoring is one call of the command.
type restoring struct {
	c                  *cobra.Command
	file               string
	from, logs         string
	data, memory       string
	report             carry.Report
	zxid               int64
	replacesWhatIsLive bool
}

func (r *restoring) run() error {
	var err error
	switch {
	case r.data != "":
		err = r.offline()
	case r.from != "":
		err = r.sendTree()
	default:
		err = r.sendFile()
	}
	if err != nil {
		return err
	}
	return r.print()
}

// read makes a backup of whatever is to be restored. bytesMax is a bound on memory, 0 is none.
func (r *restoring) read(bytesMax int64) (b *znode.Backup, err error) {
	if r.from != "" {
		dir, logs, err := absolute(r.from, r.logs)
		if err != nil {
			return nil, err
		}
		b, r.report, err = carry.FromZooKeeper(vfs.OS(), dir, logs, bytesMax)
		return b, err
	}
	f, in, err := r.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, r.report, err = carry.Read(in, bytesMax)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.file, err)
	}
	return b, nil
}

func absolute(dir, logs string) (string, string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil || logs == "" {
		return dir, "", err
	}
	logs, err = filepath.Abs(logs)
	return dir, logs, err
}

func (r *restoring) open() (vfs.File, io.Reader, error) {
	f, err := vfs.OS().Open(r.file, vfs.ReadOnly)
	if err != nil {
		return nil, nil, err
	}
	in, err := carry.Reader(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, in, nil
}

// offline restores into a directory.
func (r *restoring) offline() error {
	cfg := configs.Defaults()
	for name, value := range map[string]string{"data": r.data, "memory": r.memory} {
		if value != "" {
			if err := cfg.Set(name, value); err != nil {
				return &exitError{exitUsage, err}
			}
		}
	}
	if err := cfg.Finish(); err != nil {
		return &exitError{exitUsage, err}
	}
	log := slog.New(slog.NewTextHandler(r.c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	box, err := nodeConfig(&cfg, log)
	if err != nil {
		return err
	}
	b, err := r.read(box.Limits.ZooKeeper.TreeBytesMax)
	if errors.Is(err, znode.ErrTooLarge) || errors.Is(err, zkdata.ErrTooLarge) {
		return fmt.Errorf("%w; a box with %d MiB of memory keeps trees of up to %d MiB: give more with --memory, here and to cairn start",
			err, box.Limits.Memory>>20, box.Limits.ZooKeeper.TreeBytesMax>>20)
	}
	if err != nil {
		return err
	}
	wall := clock.System()
	r.zxid, err = node.RestoreOffline(box, node.Deps{
		Runtime: mailbox.NewThreads(wall), Clock: wall, FS: vfs.OS(), Observer: observe.New(log), Random: rand.Reader,
	}, b)
	return err
}

// sendFile sends a file as it is to a running box, which looks whether it is whole.
func (r *restoring) sendFile() error {
	f, in, err := r.open()
	if err != nil {
		return err
	}
	defer f.Close()
	return r.send(in)
}

// sendTree reads a ZooKeeper's directory and sends what it makes of it.
func (r *restoring) sendTree() error {
	b, err := r.read(0)
	if err != nil {
		return err
	}
	read := r.report
	out, in := io.Pipe()
	go func() { in.CloseWithError(carry.Write(in, b)) }() // it ends with the request, which closes the other end
	err = r.send(out)
	_ = out.Close() // what was not sent is not needed
	read.Nodes = r.report.Nodes
	r.report = read
	return err
}

func (r *restoring) send(body io.Reader) error {
	answer, err := commandRequest(r.c, http.MethodPost, "restore", nil, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end or given up
	var reply struct {
		LastZxid   int64 `json:"last_zxid"`
		Nodes      int   `json:"nodes"`
		Ephemerals int64 `json:"ephemerals_left_out"`
		Reserved   int   `json:"reserved_left_out"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&reply); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	r.zxid, r.replacesWhatIsLive = reply.LastZxid, true
	r.report = carry.Report{Nodes: reply.Nodes, Ephemerals: reply.Ephemerals, Reserved: reply.Reserved}
	return nil
}

func (r *restoring) print() error {
	out := newPrinter(r.c)
	if out.json {
		return out.object(map[string]any{
			"nodes": r.report.Nodes, "zxid": fmt.Sprintf("0x%x", r.zxid), "ephemerals_left_out": r.report.Ephemerals,
			"reserved_left_out": r.report.Reserved, "snapshot": r.report.Snapshot, "logs": r.report.Logs,
			"transactions": r.report.Transactions, "notes": append([]string{}, r.report.Notes...),
		})
	}
	if r.report.Snapshot != "" {
		out.line(fmt.Sprintf("Read %s and %d transactions of %d logs, up to zxid 0x%x.", r.report.Snapshot, r.report.Transactions, r.report.Logs, r.report.Zxid))
	}
	out.line(fmt.Sprintf("Restored %d znodes; the tree is at zxid 0x%x now. %d ephemerals were left out.", r.report.Nodes, r.zxid, r.report.Ephemerals))
	if r.report.Reserved > 0 {
		out.line(fmt.Sprintf("%d znodes at and below /cairn were left out: that part is the boxes' own.", r.report.Reserved))
	}
	for _, note := range r.report.Notes {
		out.line("Note: " + note + ".")
	}
	if r.replacesWhatIsLive {
		out.line("All sessions of ZooKeeper clients have ended with it.")
	}
	return nil
}
