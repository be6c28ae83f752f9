package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cairn/engine/broker/batch"
	"cairn/engine/broker/seglog"
	"cairn/platform/vfs"
)

func dumpCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "dump FILE…", Short: "Show what is in segment and index files of a partition",
		Long:    "Show the batches of .log files and the entries of .index, .timeindex and .txnindex files, with no server needed.",
		Args:    cobra.MinimumNArgs(1),
		Example: "  cairn dump cairn-data/topics/sensors-0/00000000000000000000.log",
	}
	c.RunE = func(c *cobra.Command, files []string) error {
		for _, name := range files {
			if err := dumpFile(newPrinter(c), name); err != nil {
				return fmt.Errorf("dump %s: %w", name, err)
			}
		}
		return nil
	}
	return c
}

func dumpFile(out printer, name string) error {
	base, ok := seglog.BaseOffset(filepath.Base(name))
	if !ok {
		return usage("the name is not that of a segment's file, such as 00000000000000000000.log")
	}
	file, err := vfs.OS().Open(name, vfs.ReadOnly)
	if err != nil {
		return err
	}
	defer file.Close()
	out.line(name)
	show := func(v map[string]any) error {
		if out.json {
			return out.object(v)
		}
		b, err := json.Marshal(v)
		out.line("  " + strings.Trim(strings.ReplaceAll(strings.ReplaceAll(string(b), `"`, ""), ",", " "), "{}"))
		return err
	}
	switch filepath.Ext(name) {
	case ".log":
		end, err := seglog.DumpLog(file, func(position int64, h *batch.Header, invalid error) error {
			return show(batchFields(position, h, invalid))
		})
		size, sizeErr := file.Size()
		if err == nil && sizeErr == nil && end < size {
			err = fmt.Errorf("no whole batch from byte %d of %d on", end, size)
		}
		return errors.Join(err, sizeErr)
	case ".index":
		return seglog.DumpIndex(file, base, func(offset, position int64) error {
			return show(map[string]any{"offset": offset, "position": position})
		})
	case ".timeindex":
		return seglog.DumpTimeIndex(file, base, func(timestamp, offset int64) error {
			return show(map[string]any{"timestamp": timestamp, "offset": offset})
		})
	case ".txnindex":
		return seglog.DumpTxnIndex(file, func(a seglog.AbortedTxn) error {
			return show(map[string]any{"producer": a.ProducerID, "first": a.FirstOffset, "last": a.LastOffset, "stable": a.LastStableOffset})
		})
	}
	return usage("want a .log, .index, .timeindex or .txnindex file")
}

func batchFields(position int64, h *batch.Header, invalid error) map[string]any {
	m := map[string]any{
		"base": h.BaseOffset, "last": h.LastOffset(), "position": position, "bytes": h.Size(), "records": h.Count,
		"epoch": h.LeaderEpoch, "codec": h.Attributes.Codec().String(), "max_timestamp": h.MaxTimestamp, "crc_ok": invalid == nil,
	}
	if h.HasProducerID() {
		m["producer"], m["producer_epoch"], m["sequence"] = h.ProducerID, h.ProducerEpoch, h.BaseSequence
	}
	for name, on := range map[string]bool{"transactional": h.Attributes.Transactional(), "control": h.Attributes.Control()} {
		if on {
			m[name] = true
		}
	}
	return m
}
