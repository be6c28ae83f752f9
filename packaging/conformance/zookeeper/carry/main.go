// Command carry writes a tree of every kind of node to a ZooKeeper server, and prints a tree with all that a client can see
// of it, so that a tree that was moved can be compared with the one that it was moved from. It is a client as anybody's is:
// import.sh runs it against real ZooKeepers and against cairn.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

const auth = "carrier:secret"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "carry:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: carry write|change|print|fill|quiet|churn|load HOST:PORT [NODES|SECONDS]")
	}
	conn, err := connect(args[1])
	if err != nil {
		return err
	}
	if args[0] == "write" {
		return write(conn, args[1]) // its session stays open, with its ephemerals
	}
	defer conn.Close()
	switch args[0] {
	case "change":
		return change(conn)
	case "print":
		return printTree(conn)
	case "fill":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return fill(conn, n)
	case "quiet":
		return quiet(conn)
	case "churn":
		seconds, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return churn(args[1], time.Duration(seconds)*time.Second)
	case "load":
		seconds, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return load(args[1], time.Duration(seconds)*time.Second)
	}
	return fmt.Errorf("unknown command %s", args[0])
}

type silent struct{}

func (silent) Printf(string, ...any) {}

func connect(servers string) (*zk.Conn, error) {
	conn, events, err := zk.Connect(strings.Split(servers, ","), 10*time.Second, zk.WithLogger(silent{}))
	if err != nil {
		return nil, err
	}
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return conn, conn.AddAuth("digest", []byte(auth))
			}
		case <-deadline:
			conn.Close()
			return nil, fmt.Errorf("no session at %s", servers)
		}
	}
}

// steps does one after the other until one fails.
type steps struct {
	conn *zk.Conn
	err  error
}

func (s *steps) create(path string, data []byte, flags int32, acl ...zk.ACL) string {
	if s.err != nil {
		return ""
	}
	if acl == nil {
		acl = zk.WorldACL(zk.PermAll)
	}
	made, err := s.conn.Create(path, data, flags, acl)
	s.fail("create", path, err)
	return made
}

func (s *steps) set(path string, data []byte) {
	if s.err == nil {
		_, err := s.conn.Set(path, data, -1)
		s.fail("set", path, err)
	}
}

func (s *steps) delete(path string) {
	if s.err == nil {
		s.fail("delete", path, s.conn.Delete(path, -1))
	}
}

func (s *steps) setACL(path string, acl ...zk.ACL) {
	if s.err == nil {
		_, err := s.conn.SetACL(path, acl, -1)
		s.fail("setACL", path, err)
	}
}

func (s *steps) fail(what, path string, err error) {
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s %s: %w", what, path, err)
	}
}

// write makes a node of every kind, and everything that moves a version or a zxid.
func write(conn *zk.Conn, server string) error {
	s := &steps{conn: conn}
	private := zk.DigestACL(zk.PermAll, "carrier", "secret")
	s.create("/app", []byte("first"), 0)
	s.create("/app/empty", []byte{}, 0)
	s.create("/app/binary", []byte{0, 1, 2, 0xff, '\n'}, 0)
	s.create("/app/große Straße…", []byte("ünïcode"), 0)
	s.create("/app/large", []byte(strings.Repeat("0123456789abcdef", 1200)), 0)
	s.create("/app/private", []byte("private"), 0, private...)
	s.create("/app/several", nil, 0, append(zk.WorldACL(zk.PermRead), private...)...)
	s.create("/app/address", nil, 0, zk.ACL{Perms: zk.PermAll, Scheme: "ip", ID: "127.0.0.0/8"}, zk.ACL{Perms: zk.PermAdmin, Scheme: "ip", ID: "10.1.2.3"})
	s.create("/app/mine", nil, 0, zk.AuthACL(zk.PermAll)...)
	for range 12 {
		s.create("/app/seq-", nil, zk.FlagSequence)
	}
	s.delete("/app/seq-0000000012")
	s.create("/app/deep", nil, 0)
	for path := "/app/deep"; len(path) < 200 && s.err == nil; {
		path += "/x"
		s.create(path, []byte(strconv.Itoa(len(path))), 0)
	}
	for i := range 5 {
		s.set("/app", []byte("data "+strconv.Itoa(i)))
	}
	s.setACL("/app/empty", zk.WorldACL(zk.PermRead|zk.PermAdmin|zk.PermDelete)...)
	s.setACL("/app/empty", private...)
	s.create("/again", []byte("old"), 0)
	s.create("/again/child", nil, 0)
	s.delete("/again/child")
	s.delete("/again")
	s.create("/again", []byte("new"), 0)
	_, err := conn.CreateContainer("/container", []byte("c"), zk.FlagContainer, zk.WorldACL(zk.PermAll))
	s.fail("create", "/container", err)
	s.create("/container/child", nil, 0)
	_, err = conn.CreateTTL("/ttl", []byte("t"), zk.FlagTTL, zk.WorldACL(zk.PermAll), 24*time.Hour)
	s.fail("create", "/ttl", err)
	if s.err == nil {
		_, err = conn.Multi(
			&zk.CreateRequest{Path: "/multi", Data: []byte("m"), Acl: zk.WorldACL(zk.PermAll)},
			&zk.CreateRequest{Path: "/multi/a", Acl: zk.WorldACL(zk.PermAll)},
			&zk.CreateRequest{Path: "/multi/b", Acl: zk.WorldACL(zk.PermAll)},
			&zk.SetDataRequest{Path: "/multi", Data: []byte("mm"), Version: 0},
			&zk.CheckVersionRequest{Path: "/multi", Version: 1},
			&zk.DeleteRequest{Path: "/multi/a", Version: 0},
		)
		s.fail("multi", "/multi", err)
		_, _ = conn.Multi( // fails as a whole
			&zk.CreateRequest{Path: "/multi/never", Acl: zk.WorldACL(zk.PermAll)},
			&zk.CheckVersionRequest{Path: "/multi", Version: 77},
		)
	}
	s.create("/zookeeper/quota/app", nil, 0)
	s.create("/zookeeper/quota/app/zookeeper_limits", []byte("count=1000,bytes=100000"), 0)
	s.create("/zookeeper/quota/app/zookeeper_stats", []byte("count=0,bytes=0"), 0)
	s.create("/app/counted", []byte("by the quota"), 0)
	if s.err != nil {
		return s.err
	}
	return ephemerals(server, s)
}

// ephemerals makes some, and a session that ends with its own.
func ephemerals(server string, s *steps) error {
	other, err := connect(server)
	if err != nil {
		return err
	}
	o := &steps{conn: other}
	o.create("/app/ended", nil, zk.FlagEphemeral)
	o.create("/app/ended-too", []byte("x"), zk.FlagEphemeral)
	other.Close()
	s.create("/app/living", []byte("ephemeral"), zk.FlagEphemeral)
	s.create("/app/living-", nil, zk.FlagEphemeral|zk.FlagSequence)
	return errors.Join(o.err, s.err)
}

// change is what is written behind a snapshot.
func change(conn *zk.Conn) error {
	s := &steps{conn: conn}
	s.create("/app/later", []byte("later"), 0)
	s.set("/app/later", []byte("later still"))
	s.set("/multi", nil)
	s.delete("/app/counted")
	s.create("/app/seq-", nil, zk.FlagSequence)
	s.create("/churn", nil, 0)
	for i := range 150 {
		s.create(fmt.Sprintf("/churn/%d", i), []byte("x"), 0)
		if i%3 > 0 {
			s.delete(fmt.Sprintf("/churn/%d", i))
		}
	}
	s.setACL("/again", zk.WorldACL(zk.PermRead|zk.PermWrite|zk.PermCreate|zk.PermDelete)...)
	return s.err
}

// fill makes many nodes, so that moving them takes a while.
func fill(conn *zk.Conn, n int) error {
	s := &steps{conn: conn}
	s.create("/filled", nil, 0)
	for at := 0; at < n && s.err == nil; {
		var ops []any
		for ; at < n && len(ops) < 500; at++ {
			ops = append(ops, &zk.CreateRequest{Path: fmt.Sprintf("/filled/%06d", at), Data: []byte(strings.Repeat("f", 200)), Acl: zk.WorldACL(zk.PermAll)})
		}
		_, err := conn.Multi(ops...)
		s.fail("multi", "/filled", err)
	}
	return s.err
}

// printTree prints everything that a client can see and that is to be moved, a line for each node. Of parents that have an
// ephemeral, and of the root, what their children change is left out.
func printTree(conn *zk.Conn) error {
	var lines []string
	var visit func(path string) error
	visit = func(path string) error {
		if path == "/cairn" || path == "/zookeeper/config" {
			return nil
		}
		children, stat, err := conn.Children(path)
		if err != nil {
			return fmt.Errorf("children of %s: %w", path, err)
		}
		data, _, err := conn.Get(path)
		if errors.Is(err, zk.ErrNoAuth) {
			data, err = []byte("no auth"), nil
		}
		if err != nil {
			return fmt.Errorf("get %s: %w", path, err)
		}
		if stat.EphemeralOwner != 0 {
			return nil
		}
		acl, _, err := conn.GetACL(path)
		if err != nil {
			return fmt.Errorf("ACLs of %s: %w", path, err)
		}
		shown := fmt.Sprintf("%q", data)
		if len(data) > 64 {
			shown = fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))
		}
		kept := 0
		for _, name := range children {
			at := strings.TrimSuffix(path, "/") + "/" + name
			if ok, s, err := conn.Exists(at); err == nil && ok && s.EphemeralOwner == 0 && at != "/cairn" {
				kept++
			}
			if err := visit(at); err != nil && !errors.Is(err, zk.ErrNoNode) {
				return err
			}
		}
		// The count of creations, which numbers sequential nodes, is what both sides must agree on.
		created := (stat.Cversion + stat.NumChildren) / 2
		if path == "/" {
			created = 0 // /cairn is one more
		}
		lines = append(lines, fmt.Sprintf("%s %s acl=%v czxid=%x mzxid=%x pzxid=%x ctime=%d mtime=%d version=%d created=%d aversion=%d length=%d children=%d",
			path, shown, acl, stat.Czxid, stat.Mzxid, pzxid(path, stat), stat.Ctime, stat.Mtime, stat.Version, created, stat.Aversion, stat.DataLength, kept))
		return nil
	}
	if err := visit("/"); err != nil {
		return err
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}

// pzxid of the root moves with /cairn too.
func pzxid(path string, s *zk.Stat) int64 {
	if path == "/" {
		return 0
	}
	return s.Pzxid
}

// churn has many clients change the same few nodes in every way, so that a server that writes snapshots meanwhile writes
// fuzzy ones. Their sessions come and go.
func churn(server string, long time.Duration) error {
	end := time.Now().Add(long)
	const clients = 8
	done := make(chan int, clients)
	for c := range clients {
		go func() {
			random := rand.New(rand.NewPCG(uint64(c), 5))
			writes := 0
			for time.Now().Before(end) {
				conn, err := connect(server)
				if err != nil {
					break
				}
				for range 40 + random.IntN(40) {
					if change1(conn, random) == nil {
						writes++
					}
				}
				conn.Close()
			}
			done <- writes
		}()
	}
	writes := 0
	for range clients {
		writes += <-done
	}
	fmt.Println(writes, "writes")
	if writes < 100 {
		return errors.New("hardly anything was written")
	}
	return nil
}

// change1 does one thing to a random node.
func change1(conn *zk.Conn, random *rand.Rand) error {
	parent := fmt.Sprintf("/churn-%d", random.IntN(4))
	path := fmt.Sprintf("%s/%d", parent, random.IntN(6))
	open := zk.WorldACL(zk.PermAll)
	var err error
	switch random.IntN(10) {
	case 0:
		_, err = conn.Create(parent, nil, 0, open)
	case 1, 2:
		_, err = conn.Create(path, []byte(path), 0, open)
	case 3:
		_, err = conn.Create(path, []byte(path), zk.FlagEphemeral, open)
	case 4:
		_, err = conn.Create(path+"-", nil, zk.FlagEphemeral|zk.FlagSequence, open)
	case 5, 6:
		err = conn.Delete(path, -1)
	case 7:
		err = conn.Delete(parent, -1)
	case 8:
		_, err = conn.Set(path, []byte(strconv.Itoa(random.IntN(1000))), -1)
	case 9:
		_, err = conn.Multi(&zk.CreateRequest{Path: path + "m", Acl: open}, &zk.DeleteRequest{Path: path, Version: -1})
	}
	return err
}

// quiet waits until no ephemeral is left of sessions whose clients died.
func quiet(conn *zk.Conn) error {
	var left func(path string) (int, error)
	left = func(path string) (int, error) {
		children, stat, err := conn.Children(path)
		if err != nil {
			return 0, err
		}
		n := 0
		if stat.EphemeralOwner != 0 {
			n = 1
		}
		for _, name := range children {
			below, err := left(strings.TrimSuffix(path, "/") + "/" + name)
			if err != nil && !errors.Is(err, zk.ErrNoNode) {
				return 0, err
			}
			n += below
		}
		return n, nil
	}
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if n, err := left("/"); n == 0 || err != nil {
			return err
		}
	}
	return errors.New("ephemerals are left after a minute")
}

// load writes lightly until the time is over, through whatever happens to its sessions: it counts what was acknowledged.
func load(servers string, long time.Duration) error {
	end := time.Now().Add(long)
	acknowledged, failed := 0, 0
	for time.Now().Before(end) {
		conn, err := connect(servers)
		if err != nil {
			failed++
			continue
		}
		for n := 0; time.Now().Before(end) && err == nil; n++ {
			_, err = conn.Create("/load-", []byte("x"), zk.FlagSequence, zk.WorldACL(zk.PermAll))
			if err == nil {
				acknowledged++
			} else {
				failed++
			}
			time.Sleep(10 * time.Millisecond) // a light load: it must not be what is measured
		}
		conn.Close()
	}
	fmt.Printf("%d writes acknowledged, %d not\n", acknowledged, failed)
	if acknowledged == 0 {
		return errors.New("no write was acknowledged")
	}
	return nil
}
