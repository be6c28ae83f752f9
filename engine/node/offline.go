package node

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"cairn/engine/ensemble"
	"cairn/engine/ensemble/carry"
	"cairn/engine/ensemble/jute"
	"cairn/engine/ensemble/znode"
	"cairn/platform/vfs"
)

// ErrNotEmpty: the directory holds a tree already.
var ErrNotEmpty = errors.New("the directory holds a tree already")

// offlineWait is how long a box that is alone may take until it leads itself: two flushes, on a disk that is busy.
const offlineWait = time.Minute

// RestoreOffline puts a backup into the data directory of a box that does not run and has no tree of users yet, by starting
// the box without any of its doors. The next start finds it. The zxid is that which the tree is at then.
func RestoreOffline(cfg Config, deps Deps, b *znode.Backup) (zxid int64, err error) {
	cfg.Kafka, cfg.ZooKeeper, cfg.Ensemble, cfg.HTTP = nil, nil, nil, ""
	n := &Node{cfg: cfg, deps: deps, readySoon: make(chan struct{})}
	defer func() { err = errors.Join(err, n.Close()) }()
	for _, step := range []func() error{n.openData, n.openCarrier, n.openEnsemble} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	if err := n.awaitAlone(); err != nil {
		return 0, err
	}
	if err := n.holdsNothing(); err != nil {
		return 0, err
	}
	file, err := n.carrier.spool("restore.backup")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.drop()) }()
	if err := carry.Write(vfs.Appender(file.f), b); err != nil {
		return 0, err
	}
	r, err := file.reader()
	if err != nil {
		return 0, err
	}
	return awaitRestore(n.ensemble, carry.Frames(r))
}

// awaitAlone waits until the box leads itself and serves.
func (n *Node) awaitAlone() error {
	late := time.NewTimer(offlineWait)
	defer late.Stop()
	for !n.ensemble.Serving() {
		recent := make(chan error, 1)
		n.ensemble.ReadIndex(func(_ uint64, err error) { recent <- err })
		select {
		case err := <-recent:
			if err != nil {
				return err
			}
		case <-late.C:
			return fmt.Errorf("the box in %s does not serve by itself: it is one of several; start them and restore into them while they run", n.cfg.Data)
		}
	}
	return nil
}

// holdsNothing refuses a tree that somebody uses.
func (n *Node) holdsNothing() error {
	nodes := 0
	err := n.ensemble.View(func(t *znode.Tree, _ *ensemble.Watches) {
		t.Walk("/", func(path string, _ []byte, _ jute.Stat) bool {
			own := path == "/" || path == "/zookeeper" || path == "/zookeeper/quota" || path == znode.PathConfig ||
				path == znode.PathCairn || strings.HasPrefix(path, znode.PathCairn+"/")
			if !own {
				nodes++
			}
			return true
		})
	})
	if err == nil && nodes > 0 {
		err = fmt.Errorf("%w, with %d znodes: give an empty one, or start the box and restore into it while it runs, which replaces them", ErrNotEmpty, nodes)
	}
	return err
}
