package node

import (
	"net"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/raftlog"
	"cairn/engine/ensemble/zkserver"
	"cairn/engine/ensemble/zkserver/zoocfg"
	"cairn/engine/ensemble/znode"
	"cairn/engine/limits"
)

// ensembleFrom takes what a zoo.cfg says of sessions, flags and housekeeping.
func ensembleFrom(c *ensemble.Config, f *zoocfg.Config) {
	c.TickTime, c.ReadOnlyMode, c.LocalSessions = f.TickTime, f.ReadOnlyMode, f.LocalSessions
	c.FlushDelay = f.FlushDelay
	c.SessionTimeoutMin, c.SessionTimeoutMax = f.MinSessionTimeout, f.MaxSessionTimeout
	c.ReapInterval = f.ContainerCheckInterval
	c.ReapPerMinuteMax = f.ContainerPerMinuteMax
	c.ContainerNeverUsedMax = f.ContainerNeverUsed
	for on, flag := range map[znode.Flags]bool{
		znode.FlagExtendedTypes: f.ExtendedTypes, znode.FlagEnforceQuota: f.EnforceQuota, znode.FlagSkipACL: f.SkipACL,
	} {
		if flag {
			c.Flags |= on
		}
	}
	limitsFrom(&c.Limits, f)
}

// limitsFrom takes the maxima that a zoo.cfg says, with those that must not be smaller.
func limitsFrom(l *limits.ZooKeeper, f *zoocfg.Config) {
	if f.FrameBytesMax > 0 {
		l.ProposalBytesMax += max(f.FrameBytesMax-l.FrameBytesMax, 0)
		l.FrameBytesMax = f.FrameBytesMax
		l.OutboxBytesMax = max(l.OutboxBytesMax, 4*f.FrameBytesMax)
		l.ProposalsBytesMax = max(l.ProposalsBytesMax, 4*int64(l.ProposalBytesMax))
	}
	if f.SnapshotEvery > 0 {
		l.SnapshotEntries = uint64(f.SnapshotEvery)
	}
}

// zkserverFrom takes what a zoo.cfg says of the server.
func zkserverFrom(c *zkserver.Config, f *zoocfg.Config) {
	limitsFrom(&c.Limits, f)
	c.Limits.ConnectionsPerAddressMax = f.MaxClientConnections
	if f.MaxConnections > 0 {
		c.Limits.ConnectionsMax = min(c.Limits.ConnectionsMax, f.MaxConnections)
	}
	c.HandshakeTimeout, c.TickTime, c.OutstandingMax = f.HandshakeTimeout, f.TickTime, f.OutstandingMax
	c.LargeRequestThreshold, c.LargeRequestBytesMax = max(f.LargeRequestThreshold, 0), int64(f.LargeRequestBytesMax)
	c.ConnectionThrottle = zkserver.ConnectionThrottle(f.ConnectionThrottle)
	c.RequestThrottle = zkserver.RequestThrottle(f.RequestThrottle)
	c.SuperDigest, c.EnsembleNames, c.EnforceAuthSchemes = f.SuperDigest, f.EnsembleNames, f.EnforceAuthSchemes
	c.UpgradeSessions = f.UpgradeSessions
	c.LinearizableReads = c.LinearizableReads || f.LinearizableReads
	c.SkipACL, c.ReconfigEnabled = f.SkipACL, f.ReconfigEnabled
	a := &c.Admin
	a.Words, a.DataDir, a.DataLogDir, a.TickTime = f.FourLetterWords, f.DataDir, f.DataLogDir, f.TickTime
	a.MaxClientConnections, a.MinSessionTimeout, a.MaxSessionTimeout = f.MaxClientConnections, f.MinSessionTimeout, f.MaxSessionTimeout
	a.ListenBacklog, a.ServerID, a.InitialConfiguration = f.ListenBacklog, max(f.ServerID, 0), f.Text
	a.InitLimit, a.SyncLimit, a.LocalSessions = f.InitLimit, f.SyncLimit, f.LocalSessions
	a.CommandURL = f.Admin.CommandURL
	a.Properties = map[string]string{}
	for key, value := range f.Properties {
		if k := strings.ToLower(key); !strings.Contains(k, "password") && !strings.Contains(k, "digest") {
			a.Properties[key] = value
		}
	}
}

// dirSizes are the bytes of the tree's snapshots and of its log. What cannot be read counts nothing.
func (n *Node) dirSizes() (snapshots, log int64) {
	sum := func(dir string) (bytes int64) {
		files, _ := n.deps.FS.List(path.Join(n.ensembleConfig().Dir, dir))
		for _, f := range files {
			bytes += f.Size
		}
		return bytes
	}
	return sum(raftlog.Directories[1]), sum(raftlog.Directories[0])
}

// builtAt is when this binary's source was committed, or the day of the first release where that is not known.
var builtAt = func() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
					return t
				}
			}
		}
	}
	return time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)
}()

// hostPort splits a listener's address.
func hostPort(a net.Addr) (string, int) {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.IP.String(), t.Port
	}
	return "", 0
}
