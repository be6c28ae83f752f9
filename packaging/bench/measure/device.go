package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// sectorBytes is the unit of /sys/block/*/stat on every device.
const sectorBytes = 512

// Device is the block device under a directory.
type Device struct {
	Name string // as in /sys/block, or a partition below it
	stat string // its statistics file
}

// DeviceOf finds the block device that holds path. A directory without one (tmpfs, overlay, btrfs) is an error.
func DeviceOf(path string) (*Device, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", path, err)
	}
	dev := uint64(st.Dev)
	major := dev>>8&0xfff | dev>>32&^0xfff
	minor := dev&0xff | dev>>12&^0xff
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return nil, fmt.Errorf("%s is on no block device: %w", path, err)
	}
	return &Device{Name: filepath.Base(dir), stat: filepath.Join(dir, "stat")}, nil
}

// Written is the number of bytes that the device was told to write since it is there, by anybody.
func (d *Device) Written() (uint64, error) {
	raw, err := os.ReadFile(d.stat)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 7 {
		return 0, fmt.Errorf("%s has %d fields", d.stat, len(fields))
	}
	sectors, err := strconv.ParseUint(fields[6], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", d.stat, err)
	}
	return sectors * sectorBytes, nil
}
