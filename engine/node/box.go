package node

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"cairn/platform/vfs"
)

// formatVersion is the version of the data directory's layout that this binary writes. A binary refuses a newer one.
const formatVersion = 1

// ErrNewer means that the data was written by a newer cairn.
var ErrNewer = errors.New("the data was written by a newer version of cairn")

// identity is box.toml: who this box is. It is written once, beside and renamed, and read at every start.
type identity struct {
	format int
	box    int32 // broker id and raft id of this box
	// cluster is the id that the box proposes for a cluster that has none yet.
	cluster string
}

const boxFile = "box.toml"

// readIdentity reads the box's identity, and makes one with the given number for a directory that has none.
func readIdentity(fs vfs.FS, dir string, box int32) (identity, error) {
	name := path.Join(dir, boxFile)
	b, err := vfs.ReadFile(fs, name, 4096)
	if errors.Is(err, vfs.ErrNotExist) {
		return makeIdentity(fs, dir, box)
	}
	if err != nil {
		return identity{}, fmt.Errorf("read %s, which is not a box.toml or cannot be read: %w", name, err)
	}
	id, err := parseIdentity(string(b))
	if err != nil {
		return identity{}, fmt.Errorf("read %s: %w", name, err)
	}
	return id, nil
}

// parseIdentity reads the few lines that makeIdentity writes. Unknown keys of the same format are left alone.
func parseIdentity(text string) (identity, error) {
	var id identity
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		key, value = strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"`)
		switch key {
		case "format", "id":
			n, err := strconv.ParseInt(value, 10, 31)
			if err != nil || n < 1 {
				return identity{}, fmt.Errorf("%s is %q, want a number above 0", key, value)
			}
			if key == "format" {
				id.format = int(n)
			} else {
				id.box = int32(n)
			}
		case "cluster":
			id.cluster = value
		}
	}
	switch {
	case id.format > formatVersion:
		return identity{}, fmt.Errorf("%w: format %d, this binary knows up to %d; start the newer cairn again, or another data directory", ErrNewer, id.format, formatVersion)
	case id.format == 0 || id.box == 0:
		return identity{}, errors.New("format or id is missing: not a box.toml, or a damaged one")
	}
	return id, nil
}

func makeIdentity(fs vfs.FS, dir string, box int32) (identity, error) {
	id := identity{format: formatVersion, box: box, cluster: newClusterID()}
	text := fmt.Sprintf("# Who this box is. Written once by cairn; do not copy it to another box.\nformat = %d\nid = %d\ncluster = %q\n", id.format, id.box, id.cluster)
	name := path.Join(dir, boxFile)
	return id, vfs.WriteFile(fs, name, []byte(text))
}

// makeDirectory makes a directory and what is missing above it, durably: what is written below it is worth no more than
// its own name.
func makeDirectory(fs vfs.FS, name string) error {
	var parents []string
	for at := path.Clean(name); ; at = path.Dir(at) {
		_, err := fs.Stat(at)
		if err == nil || at == path.Dir(at) {
			break
		}
		if !errors.Is(err, vfs.ErrNotExist) {
			return err
		}
		parents = append(parents, path.Dir(at))
	}
	if err := fs.MkdirAll(name); err != nil {
		return err
	}
	for _, parent := range slices.Backward(parents) {
		if err := fs.SyncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

// newClusterID draws an id in the form of Kafka's: 16 random bytes in base64 for URLs, not beginning with a dash, which
// tools would take for an option.
func newClusterID() string {
	for {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		if id := base64.RawURLEncoding.EncodeToString(b[:]); id[0] != '-' {
			return id
		}
	}
}
