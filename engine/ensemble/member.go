package ensemble

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"cairn/engine/ensemble/quorum"
	"cairn/engine/ensemble/raftlog"
	"cairn/platform/vfs"
)

// memberFile lies beside the log and says under which raft id this disk acknowledges. It is written before the log begins:
// a disk that has begun and has no log has lost it.
const memberFile = "member.json"

// member is what the file holds.
type member struct {
	// Disk is this directory's name, drawn at random when it was empty. What was acknowledged under a raft id lies on one
	// disk; another disk is another member.
	Disk string `json:"disk"`
	// Raft is the id, once it has begun.
	Raft  uint64 `json:"raft,omitempty"`
	Begun bool   `json:"begun,omitempty"`
	// Heard are the disks of the servers that were as empty as this one when they asked: the founders, as far as this box
	// knows them. What it has written here it has told them.
	Heard map[uint64]string `json:"heard,omitempty"`
	// Rejoin is why this disk's log is to be set aside at the next start: the box begins anew, under another raft id.
	Rejoin string `json:"rejoin,omitempty"`
}

// ErrRejoin: this box's log is not to be gone on with, and it says so in its directory: opened once more, the ensemble sets
// the log aside and joins the others anew. The error that wraps it says why.
var ErrRejoin = errors.New("this box is to join anew")

// ErrRemoved: the others have gone on without this box: it was removed, or another disk took its place.
var ErrRemoved = errors.New("the ensemble has no place for this box's disk any more")

// readMember reads the file, or makes one for an empty directory, and does what it says about the log before the log is
// opened.
func readMember(cfg Config, deps Deps) (member, error) {
	name := path.Join(cfg.Dir, memberFile)
	b, err := vfs.ReadFile(deps.FS, name, 64<<10)
	if errors.Is(err, vfs.ErrNotExist) {
		return newMember(cfg, deps)
	}
	var m member
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read %s: %w", name, err)
	}
	if m.Rejoin == "" {
		return m, nil
	}
	deps.Observer.Log.Warn("the log is set aside, and this box joins anew", "reason", m.Rejoin, "aside", path.Join(cfg.Dir, asideDir))
	if err := setAside(deps.FS, cfg.Dir); err != nil {
		return m, fmt.Errorf("set the log aside: %w", err)
	}
	return newMember(cfg, deps)
}

// newMember names the disk.
func newMember(cfg Config, deps Deps) (member, error) {
	var name [16]byte
	if _, err := io.ReadFull(deps.Random, name[:]); err != nil {
		return member{}, fmt.Errorf("name this disk: %w", err)
	}
	m := member{Disk: hex.EncodeToString(name[:])}
	if err := deps.FS.MkdirAll(cfg.Dir); err != nil {
		return m, fmt.Errorf("make the ensemble's directory: %w", err)
	}
	return m, m.write(cfg, deps)
}

func (m *member) write(cfg Config, deps Deps) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write %s: %w", memberFile, err)
	}
	return vfs.WriteFile(deps.FS, path.Join(cfg.Dir, memberFile), b)
}

// asideDir holds the last log that was set aside, for people to look at.
const asideDir = "aside"

// setAside moves the log and the snapshots away. What was set aside before is removed. It may be repeated.
func setAside(fs vfs.FS, dir string) error {
	aside := path.Join(dir, asideDir)
	if err := fs.MkdirAll(aside); err != nil {
		return err
	}
	for _, name := range raftlog.Directories {
		from, to := path.Join(dir, name), path.Join(aside, name)
		if _, err := fs.Stat(from); errors.Is(err, vfs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := removeAll(fs, to); err != nil {
			return err
		}
		if err := fs.Rename(from, to); err != nil {
			return err
		}
	}
	return errors.Join(fs.SyncDir(aside), fs.SyncDir(dir))
}

// removeAll removes a directory of files, if it is there.
func removeAll(fs vfs.FS, dir string) error {
	files, err := fs.List(dir)
	if errors.Is(err, vfs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := fs.Remove(path.Join(dir, f.Name)); err != nil {
			return err
		}
	}
	return fs.Remove(dir)
}

// recall reconciles the file with what the log's recovery found. It tells whether this box is a member already; one that is
// not has to ask the others first.
func (m *member) recall(cfg Config, deps Deps, fresh bool) (bool, error) {
	switch {
	case !fresh && m.Begun:
		return true, nil
	case !fresh: // a log from before there was such a file
		m.Raft, m.Begun = quorum.RaftID(cfg.Box, 0), true
		return true, m.write(cfg, deps)
	case m.Begun:
		deps.Observer.Log.Warn("this box had a log and has none any more: it joins anew", "dir", cfg.Dir)
		lost, err := newMember(cfg, deps)
		*m = lost
		return false, err
	}
	return false, nil
}

// rejoin notes that this disk's log is not to be gone on with, and ends this box's ensemble.
func (o *owner) rejoin(cause error) {
	if o.e.deps.Ask == nil {
		o.fail(cause)
		return
	}
	o.member.Rejoin = cause.Error()
	err := o.member.write(o.e.cfg, o.e.deps)
	o.fail(errors.Join(ErrRejoin, cause, err))
}
