package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cairn/packaging/conformance/boxes"
)

// coverMB bounds what a box may write where its log directory was.
const coverMB = 1024

// Disks are the boxes' own small file systems: ext4 in a file each, mounted where the box keeps its data. They outlive the
// program, as their files are kept with the state.
type Disks struct {
	dir     string
	mounted []string
}

// MountDisks makes those that are not there yet, and mounts all.
func MountDisks(dir string, megabytes int) (*Disks, error) {
	d := &Disks{dir: dir}
	for box := 1; box <= boxes.Count; box++ {
		if err := d.mount(box, megabytes); err != nil {
			return nil, errors.Join(fmt.Errorf("box %d gets no disk of its own: %w", box, err), d.Close())
		}
	}
	return d, nil
}

func (d *Disks) mount(box, megabytes int) error {
	at, image := boxDir(d.dir, box), filepath.Join(d.dir, fmt.Sprintf("disk%d", box))
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(image); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(image, nil, 0o644); err != nil {
			return err
		}
		if err := os.Truncate(image, int64(megabytes)<<20); err != nil {
			return err
		}
		if err := command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
			return err
		}
	}
	if err := command("mount", "-o", "loop", image, at); err != nil {
		return err
	}
	d.mounted = append(d.mounted, at)
	_ = os.Remove(ballast(at)) // of a run that was killed
	return nil
}

// Close unmounts all. The boxes must have ended.
func (d *Disks) Close() error {
	var failures []error
	for _, at := range d.mounted {
		failures = append(failures, command("umount", at))
	}
	d.mounted = nil
	return errors.Join(failures...)
}

func boxDir(dir string, box int) string { return filepath.Join(dir, fmt.Sprintf("box%d", box)) }

func ballast(at string) string { return filepath.Join(at, "ballast") }

// Fill leaves no byte free on a box's disk.
func (d *Disks) Fill(box int) error {
	at := boxDir(d.dir, box)
	f, err := os.Create(ballast(at))
	if err != nil {
		return err
	}
	defer f.Close()
	var end int64
	for step := int64(64 << 20); step >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, end, step)
		switch {
		case err == nil:
			end += step
		case errors.Is(err, syscall.ENOSPC):
			step /= 2
		case !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("fill %s: %w", at, err)
		}
	}
	return nil
}

// Free takes the ballast away.
func (d *Disks) Free(box int) error { return os.Remove(ballast(boxDir(d.dir, box))) }

// cover mounts an empty file system over a directory, as a process sees it: `ip netns exec` has given each box mounts of its own.
// The process's open files stay as they are, as behind umount -l.
func cover(pid int, dir string, readOnly bool) error {
	options := fmt.Sprintf("size=%dm,mode=755", coverMB)
	if readOnly {
		options += ",ro"
	}
	return command("nsenter", "--mount", "--target", fmt.Sprint(pid), "mount", "-t", "tmpfs", "-o", options, "unmounted", dir)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
