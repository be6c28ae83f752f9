package znode

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"cairn/engine/ensemble/jute"
)

// Names of the nodes that make a quota of /x/y: /zookeeper/quota/x/y/zookeeper_limits and …/zookeeper_stats (Quotas).
const (
	quotaLimits = "zookeeper_limits"
	quotaStats  = "zookeeper_stats"
)

// quotaTrie holds the paths that have a limits node, so that the nearest one above a path is found by walking down
// (PathTrie). It follows from the tree and is in no snapshot.
type quotaTrie struct {
	root  quotaBranch
	count int // of paths
	// undone is what the running multi did, to be taken back.
	undone  []quotaUndo
	journal bool
}

type quotaBranch struct {
	children map[string]*quotaBranch
	set      bool
}

type quotaUndo struct {
	path  string
	added bool
}

func (q *quotaTrie) begin()  { q.journal = true }
func (q *quotaTrie) commit() { q.journal, q.undone = false, nil }

func (q *quotaTrie) undo() {
	q.journal = false
	for _, u := range slices.Backward(q.undone) {
		if u.added {
			q.remove(u.path)
		} else {
			q.add(u.path)
		}
	}
	q.undone = nil
}

// add sets a path, which begins with a slash and is not the root's.
func (q *quotaTrie) add(path string) {
	b := &q.root
	for name := range strings.SplitSeq(path[1:], "/") {
		next := b.children[name]
		if next == nil {
			if b.children == nil {
				b.children = make(map[string]*quotaBranch)
			}
			next = &quotaBranch{}
			b.children[strings.Clone(name)] = next // a name that shares its memory would keep the whole path
		}
		b = next
	}
	if b.set {
		return
	}
	b.set = true
	q.count++
	if q.journal {
		q.undone = append(q.undone, quotaUndo{path: path, added: true})
	}
}

// remove unsets a path and forgets the branches that lead nowhere.
func (q *quotaTrie) remove(path string) {
	names := strings.Split(path[1:], "/")
	branches := make([]*quotaBranch, 0, len(names)+1)
	b := &q.root
	for _, name := range names {
		branches = append(branches, b)
		if b = b.children[name]; b == nil {
			return
		}
	}
	if !b.set {
		return
	}
	b.set = false
	q.count--
	if q.journal {
		q.undone = append(q.undone, quotaUndo{path: path})
	}
	for i := len(names) - 1; i >= 0 && len(b.children) == 0 && !b.set; i-- {
		b = branches[i]
		delete(b.children, names[i])
	}
}

// nearest is the longest path in the trie that path is or lies below, or "".
func (q *quotaTrie) nearest(path string) string {
	if q.count == 0 || len(path) < 2 {
		return ""
	}
	b, end := &q.root, 0
	for at := 0; at < len(path); {
		next := len(path)
		if i := strings.IndexByte(path[at+1:], '/'); i >= 0 {
			next = at + 1 + i
		}
		if b = b.children[path[at+1:next]]; b == nil {
			break
		}
		if b.set {
			end = next
		}
		at = next
	}
	return path[:end]
}

// quotaTarget is the path that a node below /zookeeper/quota speaks of, or "" if it speaks of none.
func quotaTarget(path string) string {
	if !within(path, pathQuota) {
		return ""
	}
	return path[len(pathQuota):]
}

// quotaCreated keeps the trie when a node was made, and counts a subtree whose stats node was made
// (DataTree.createNode).
func (x *txn) quotaCreated(parentPath, name string) {
	target := quotaTarget(parentPath)
	if target == "" {
		return
	}
	switch name {
	case quotaLimits:
		x.t.quotas.add(target)
	case quotaStats:
		x.writeStats(target, x.countSubtree(target))
	}
}

// countSubtree counts the nodes and bytes at and below a path.
func (x *txn) countSubtree(path string) quotaTrack {
	stats, known := x.counted[path]
	if known {
		return stats
	}
	if top := x.t.find(path); top != 0 {
		x.t.walk(top, func(id nodeID) bool {
			stats.count++
			stats.bytes += int64(x.t.dataLen(id))
			return true
		})
	}
	if x.counted == nil {
		x.counted = make(map[string]quotaTrack)
	}
	x.counted[path] = stats
	return stats
}

// recount enters a change at path into what was counted in this entry. It comes at once after the change of the tree.
func (x *txn) recount(path string, bytes, count int64) {
	for top, stats := range x.counted { // each by itself: the order does not matter
		if within(path, top) {
			stats.count += count
			stats.bytes += bytes
			x.counted[top] = stats
		}
	}
}

// quotaDeleted keeps the trie when a node went.
func (x *txn) quotaDeleted(parentPath, name string) {
	if target := quotaTarget(parentPath); target != "" && name == quotaLimits {
		x.t.quotas.remove(target)
	}
}

// countQuota enters a change at path into the stats of the nearest quota. Stats are rewritten in place: no version, no
// mzxid, no watch. Stats that a client made unreadable count from unset.
func (x *txn) countQuota(path string, bytes, count int64) {
	prefix := x.t.quotas.nearest(path)
	if prefix == "" {
		return
	}
	id := x.t.find(pathQuota + prefix + "/" + quotaStats)
	if id == 0 {
		return
	}
	stats, err := parseQuota(x.t.data(id))
	if err != nil {
		stats = quotaUnset()
	}
	stats.count += count
	stats.bytes += bytes
	x.writeStats(prefix, stats)
}

// writeStats puts stats into the stats node of a quota, if there is one.
func (x *txn) writeStats(prefix string, stats quotaTrack) {
	path := pathQuota + prefix + "/" + quotaStats
	id, hash := x.t.lookup(path)
	if id == 0 {
		return
	}
	text := []byte(stats.String())
	x.recount(path, int64(len(text)-x.t.dataLen(id)), 0)
	x.t.unsum(id, hash)
	x.t.setData(id, text)
	x.t.sum(id, hash)
}

// checkQuota is ZooKeeperServer.checkQuota: only a hard limit refuses, and only when quotas are enforced; a soft one is
// told. The boxes' own writes are never refused. Limits that cannot be read fail the request, as they do in ZooKeeper.
func (x *txn) checkQuota(path string, bytes, count int64) jute.Code {
	if !x.e.has(FlagEnforceQuota) || x.acc.Internal {
		return jute.OK
	}
	prefix := x.t.quotas.nearest(path)
	if prefix == "" {
		return jute.OK
	}
	dir := pathQuota + prefix + "/"
	limitsID, statsID := x.t.find(dir+quotaLimits), x.t.find(dir+quotaStats)
	if limitsID == 0 {
		return jute.OK
	}
	limits, err := parseQuota(x.t.data(limitsID))
	if err != nil {
		return jute.MarshallingError
	}
	if statsID == 0 {
		return jute.OK
	}
	stats, err := parseQuota(x.t.data(statsID))
	switch {
	case err != nil && (count != 0 && limits.countHard > -1 || bytes != 0 && limits.bytesHard > -1):
		return jute.MarshallingError
	case err != nil:
		return jute.OK
	case count != 0 && x.exceeds(prefix, "count", stats.count+count, limits.count, limits.countHard),
		bytes != 0 && x.exceeds(prefix, "byte", stats.bytes+bytes, limits.bytes, limits.bytesHard):
		return jute.QuotaExceeded
	}
	return jute.OK
}

// exceeds notes that a limit is exceeded, the hard one if there is one, and tells whether that refuses the write.
func (x *txn) exceeds(path, limit string, want, soft, hard int64) bool {
	switch {
	case hard > -1 && want > hard:
		x.out.OverQuota = &OverQuota{Path: path, Limit: limit + "HardLimit", Hard: true, Want: want, Most: hard}
		return true
	case hard <= -1 && soft > -1 && want > soft:
		x.out.OverQuota = &OverQuota{Path: path, Limit: limit + "Limit", Want: want, Most: soft}
	}
	return false
}

// each visits the paths of the trie in no order.
func (q *quotaTrie) each(b *quotaBranch, prefix string, visit func(string)) {
	if b.set {
		visit(prefix)
	}
	for name, child := range b.children {
		q.each(child, prefix+"/"+name, visit)
	}
}

// quotaTrack is the text of a limits or stats node (StatsTrack); -1 is unset.
type quotaTrack struct {
	count, bytes         int64
	countHard, bytesHard int64
	others               []string // "key=value" of the keys besides count and bytes, sorted; the hard limits among them
}

func quotaUnset() quotaTrack { return quotaTrack{count: -1, bytes: -1, countHard: -1, bytesHard: -1} }

var errQuota = errors.New("not the text of a quota")

// parseQuota reads "count=4,bytes=5=;countHardLimit=10;byteHardLimit=10": pairs between commas and semicolons, a key's
// empty value is -1.
func parseQuota(data []byte) (quotaTrack, error) {
	q := quotaUnset()
	if data == nil {
		return q, errQuota
	}
	if len(data) == 0 {
		return q, nil
	}
	if len(data) > quotaTextMax {
		return q, errQuota
	}
	values := make(map[string]int64)
	pairs := strings.FieldsFunc(string(data), func(r rune) bool { return r == ',' || r == ';' })
	if data[0] == ',' || data[0] == ';' || len(pairs) > quotaPairsMax {
		return q, errQuota
	}
	for _, pair := range pairs {
		key, rest, ok := strings.Cut(pair, "=")
		if !ok {
			return q, errQuota
		}
		text, _, _ := strings.Cut(rest, "=")
		if text == "" {
			text = "-1"
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return q, errQuota
		}
		values[key] = v
	}
	for key, v := range values {
		switch key {
		case "count":
			q.count = v
			continue
		case "bytes":
			q.bytes = v
			continue
		case "countHardLimit":
			q.countHard = v
		case "byteHardLimit":
			q.bytesHard = v
		}
		q.others = append(q.others, key+"="+strconv.FormatInt(v, 10))
	}
	slices.Sort(q.others)
	return q, nil
}

// quotaPairsMax and quotaTextMax bound the keys and the bytes of a stats node, which is read and rewritten with every
// change below its quota: what a client wrote there once must not be paid for by each of the small writes that follow.
const (
	quotaPairsMax = 64
	quotaTextMax  = 1 << 10
)

// String writes the text as ZooKeeper does: count and bytes first, and behind them an "=" that old parsers stop at.
func (q *quotaTrack) String() string {
	b := strconv.AppendInt([]byte("count="), q.count, 10)
	b = strconv.AppendInt(append(b, ",bytes="...), q.bytes, 10)
	if len(q.others) > 0 {
		b = append(b, '=')
		for _, other := range q.others {
			b = append(append(b, ';'), other...)
		}
	}
	return string(b)
}
