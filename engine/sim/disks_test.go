package sim

import (
	"io"
	"strings"

	"cairn/platform/vfs"
)

// disks are a box's: what lies below real is on files of the operating system, as the raft log must be, and everything else in
// memory that forgets what was not flushed when the power goes.
type disks struct {
	real    string
	os, mem vfs.FS
}

func (d disks) of(name string) vfs.FS {
	if strings.HasPrefix(name, d.real) {
		return d.os
	}
	return d.mem
}

// Open implements vfs.FS.
func (d disks) Open(name string, mode vfs.Mode) (vfs.File, error) { return d.of(name).Open(name, mode) }

// Rename implements vfs.FS.
func (d disks) Rename(oldname, newname string) error { return d.of(oldname).Rename(oldname, newname) }

// Remove implements vfs.FS.
func (d disks) Remove(name string) error { return d.of(name).Remove(name) }

// MkdirAll implements vfs.FS.
func (d disks) MkdirAll(dir string) error { return d.of(dir).MkdirAll(dir) }

// List implements vfs.FS.
func (d disks) List(dir string) ([]vfs.Info, error) { return d.of(dir).List(dir) }

// Stat implements vfs.FS.
func (d disks) Stat(name string) (vfs.Info, error) { return d.of(name).Stat(name) }

// SyncDir implements vfs.FS.
func (d disks) SyncDir(dir string) error { return d.of(dir).SyncDir(dir) }

// Lock implements vfs.FS.
func (d disks) Lock(name string) (io.Closer, error) { return d.of(name).Lock(name) }

// Usage implements vfs.FS.
func (d disks) Usage(dir string) (vfs.Usage, error) { return d.of(dir).Usage(dir) }
