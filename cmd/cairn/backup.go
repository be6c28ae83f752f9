package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cairn/engine/ensemble/carry"
	"cairn/platform/vfs"
)

func backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "backup --to FILE | --to-zookeeper DIR", Short: "Write the znodes of a running box, or of its whole ensemble, into a file", Args: cobra.NoArgs,
		Long: "Write all znodes that belong to users into a file, as they were at one moment that lies after every write that was\n" +
			"acknowledged before, while everything goes on. Ephemerals and sessions are not in it, nor is /cairn. `cairn restore`\n" +
			"brings the file back. With --to-zookeeper it becomes the data directory of an Apache ZooKeeper 3.8 or 3.9 instead.",
		Example: "  cairn backup --to /backup/tree.cairn\n  cairn backup --to-zookeeper /var/lib/zookeeper",
	}
	addCarryFlags(c)
	to := c.Flags().String("to", "", "file to write; one of that name is replaced when the new one is whole")
	zookeeper := c.Flags().String("to-zookeeper", "", "dataDir of a ZooKeeper that has no data yet")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if (*to == "") == (*zookeeper == "") {
			return usage("give a file with --to, or a ZooKeeper's data directory with --to-zookeeper")
		}
		if *to != "" {
			return backup(c, "cairn", func(int64) string { return *to })
		}
		return backupToZooKeeper(c, *zookeeper)
	}
	return c
}

// addCarryFlags gives a command the flags that name a box's console and who asks there.
func addCarryFlags(c *cobra.Command) {
	addHTTP(c)
	c.Flags().String("auth", envOr("CAIRN_AUTH", ""), "user:password of the digest scheme, where the root znode is not open to all (or CAIRN_AUTH)")
}

// commandRequest is a request for one of the AdminServer's commands.
func commandRequest(c *cobra.Command, method, command string, query url.Values, body io.Reader) (*http.Response, error) {
	address, _ := c.Flags().GetString("http")
	auth, _ := c.Flags().GetString("auth")
	at := url.URL{Scheme: "http", Host: address, Path: "/commands/" + command, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(c.Context(), method, at.String(), body)
	if err != nil {
		return nil, usage("--http %s: %w", address, err)
	}
	r.Header.Set("Authorization", "ip") // who comes from this address; the root's ACLs decide
	if auth != "" {
		r.Header.Set("Authorization", "digest "+auth)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/octet-stream")
		r.Header.Set("Expect", "100-continue") // who may not restore is told before all of it is sent
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, unreachable("cairn", address, "--http", err)
	}
	if answer.StatusCode == http.StatusOK && answer.Header.Get("Content-Type") == "application/octet-stream" {
		return answer, nil
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end or given up
	said, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", address, err)
	}
	var reply struct{ Error *string }
	switch err := json.Unmarshal(said, &reply); {
	case err == nil && reply.Error != nil:
		return nil, refused(answer.StatusCode, *reply.Error)
	case answer.StatusCode != http.StatusOK || err != nil:
		return nil, fmt.Errorf("%s answers %s: is it the HTTP door of a cairn that serves ZooKeeper?", address, answer.Status)
	}
	answer.Body = io.NopCloser(strings.NewReader(string(said)))
	return answer, nil
}

// refused is what the box said, with what to do about it.
func refused(status int, reason string) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: it takes all permissions on the root znode; give who has them with --auth user:password", reason)
	case http.StatusOK: // it does not serve
		return &exitError{exitUnready, errors.New(reason)}
	}
	return errors.New(reason)
}

// backup writes what the box answers to a file, whose name may depend on the zxid.
func backup(c *cobra.Command, format string, name func(zxid int64) string) error {
	answer, err := commandRequest(c, http.MethodGet, "snapshot", url.Values{"format": {format}}, nil)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end or given up
	told := func(header string, base int) (n int64) {
		if err == nil {
			n, err = strconv.ParseInt(strings.TrimPrefix(answer.Header.Get(header), "0x"), base, 64)
		}
		return n
	}
	zxid, nodes, left := told("last_zxid", 16), told("cairn_nodes", 10), told("cairn_ephemerals_left_out", 10)
	if err != nil {
		return fmt.Errorf("backup: the box does not say what it sends: %w", err)
	}
	to := name(zxid)
	whole, err := filepath.Abs(to)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	size := int64(0)
	err = vfs.ReplaceFile(vfs.OS(), whole, func(w io.Writer) (err error) {
		size, err = io.Copy(w, answer.Body)
		return err
	})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	out := newPrinter(c)
	out.line(fmt.Sprintf("Wrote %s: %d znodes, %d bytes, as of zxid 0x%x. %d ephemerals were left out.", to, nodes, size, zxid, left))
	if out.json {
		return out.object(map[string]any{"file": to, "nodes": nodes, "bytes": size, "zxid": fmt.Sprintf("0x%x", zxid), "ephemerals_left_out": left})
	}
	return nil
}

// backupToZooKeeper writes a snapshot where a ZooKeeper looks for it, if it would find nothing else there.
func backupToZooKeeper(c *cobra.Command, dir string) error {
	at := filepath.Join(dir, "version-2")
	if err := vfs.OS().MkdirAll(at); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	there, err := vfs.OS().List(at)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	for _, f := range there {
		if strings.HasPrefix(f.Name, "snapshot.") || strings.HasPrefix(f.Name, "log.") {
			return fmt.Errorf("backup: %s holds the data of a ZooKeeper already (%s): give another directory", at, f.Name)
		}
	}
	return backup(c, "zookeeper", func(zxid int64) string { return filepath.Join(at, carry.SnapshotName(zxid)) })
}
