package seglog

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"cairn/platform/vfs"
)

// readMeta reads meta.properties, or writes it in a new directory (org.apache.kafka.metadata.properties.MetaProperties).
func (d *Dir) readMeta() error {
	name := d.cfg.Path + "/" + nameMeta
	meta, err := readProperties(d.fs, name)
	if errors.Is(err, vfs.ErrNotExist) {
		meta = properties{}
	} else if err != nil {
		return err
	}
	before := len(meta)
	if v := meta["version"]; before > 0 && v != "0" && v != "1" {
		return fmt.Errorf("%w: meta.properties of version %q", ErrForeign, v)
	}
	if had := meta["cluster.id"]; had != "" && d.cfg.ClusterID != "" && had != d.cfg.ClusterID {
		return fmt.Errorf("%w: cluster %s, not %s", ErrForeign, had, d.cfg.ClusterID)
	}
	node := strconv.Itoa(int(d.cfg.NodeID))
	for _, key := range [...]string{"node.id", "broker.id"} {
		if had := meta[key]; had != "" && had != node {
			return fmt.Errorf("%w: node %s, not %s", ErrForeign, had, node)
		}
	}
	if text := meta["directory.id"]; text != "" {
		if d.id, err = ParseID(text); err != nil {
			return &CorruptionError{name, 0, err}
		}
	}
	complete := meta["version"] == "1" && meta["node.id"] != "" && !d.id.IsZero() && (meta["cluster.id"] != "" || d.cfg.ClusterID == "")
	if complete {
		return nil
	}
	if d.id.IsZero() {
		if d.id, err = d.newID(); err != nil {
			return err
		}
	}
	delete(meta, "broker.id")
	meta["version"], meta["node.id"], meta["directory.id"] = "1", node, d.id.String()
	if d.cfg.ClusterID != "" {
		meta["cluster.id"] = d.cfg.ClusterID
	}
	if err := writeFile(d.fs, name, meta.encode()); err != nil {
		return err
	}
	return syncDir(d.fs, d.cfg.Path)
}

// newID makes a random UUID of version 4, as Kafka's Uuid.randomUuid: never one that Kafka reserves, never one whose text begins with a dash.
func (d *Dir) newID() (ID, error) {
	for {
		var id ID
		if _, err := io.ReadFull(d.entropy, id[:]); err != nil {
			return id, fmt.Errorf("random directory id: %w", err)
		}
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
		if !strings.HasPrefix(id.String(), "-") {
			return id, nil
		}
	}
}
