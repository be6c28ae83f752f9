package boxes

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// Count is the size of the ensemble. Boxes are numbered from 1.
const Count = 3

// namePrefix begins every name of a namespace, bridge or link; the number of the process follows.
const namePrefix = "cairnf"

// table is what each namespace drops by; a rule is there for each box that is not heard.
const table = "cairnfaults"

// Links says which boxes do not hear which: Links[a][b] drops what goes from a to b.
type Links [Count + 1][Count + 1]bool

// Cut is the links of a box that the others do not hear (mute), or that does not hear them (deaf).
func Cut(victim int, others []int, mute, deaf bool) (l Links) {
	for _, other := range others {
		l[victim][other] = mute
		l[other][victim] = deaf
	}
	return l
}

// Network is the namespaces of the boxes and the two bridges between them.
type Network struct {
	name  string
	octet int // third of the addresses: 198.18.octet.box between boxes, 198.19.octet.box for clients

	mu  sync.Mutex // protects now
	now Links
}

// NewNetwork makes the namespaces, after removing those of runs that were killed. Close removes them. The octet is the one of
// an earlier network whose addresses are to come again, or 0.
func NewNetwork(octet int) (*Network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the boxes get network namespaces of their own: run this as root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is missing: install the Debian packages iproute2 and nftables", tool)
		}
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	octet, err := freeOctet(octet)
	if err != nil {
		return nil, err
	}
	n := &Network{name: namePrefix + strconv.Itoa(os.Getpid()), octet: octet}
	if err := n.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("make the network: %w", err), n.Close())
	}
	return n, nil
}

// build makes two bridges here, and for each box a namespace with a link to either.
func (n *Network) build() error {
	var here strings.Builder
	for _, bridge := range []string{"p", "c"} {
		fmt.Fprintf(&here, "link add %s%s type bridge\nlink set %s%s up\n", n.name, bridge, n.name, bridge)
	}
	fmt.Fprintf(&here, "addr add 198.19.%d.254/24 dev %sc\n", n.octet, n.name)
	for box := 1; box <= Count; box++ {
		fmt.Fprintf(&here, "netns add %s\n", n.Namespace(box))
		for _, bridge := range []string{"p", "c"} {
			outer := fmt.Sprintf("%s%s%d", n.name, bridge, box)
			fmt.Fprintf(&here, "link add %s type veth peer name e%s netns %s\nlink set %s master %s%s up\n",
				outer, bridge, n.Namespace(box), outer, n.name, bridge)
		}
	}
	if err := command(here.String(), "ip", "-batch", "-"); err != nil {
		return err
	}
	for box := 1; box <= Count; box++ {
		there := fmt.Sprintf("link set lo up\naddr add 198.18.%d.%d/24 dev ep\naddr add 198.19.%d.%d/24 dev ec\nlink set ep up\nlink set ec up\n",
			n.octet, box, n.octet, box)
		if err := command(there, "ip", "-n", n.Namespace(box), "-batch", "-"); err != nil {
			return err
		}
		if err := n.nft(box, fmt.Sprintf("table ip %s {\n chain heard {\n  type filter hook input priority 0; policy accept;\n }\n}\n", table)); err != nil {
			return fmt.Errorf("%w (the kernel must have nf_tables)", err)
		}
	}
	return nil
}

// Namespace is the name of a box's.
func (n *Network) Namespace(box int) string { return fmt.Sprintf("%s-%d", n.name, box) }

// PeerAddress is where the other boxes find a box.
func (n *Network) PeerAddress(box int) string { return fmt.Sprintf("198.18.%d.%d", n.octet, box) }

// ClientAddress is where clients find it.
func (n *Network) ClientAddress(box int) string { return fmt.Sprintf("198.19.%d.%d", n.octet, box) }

// Set cuts the links that are told, and heals the others. It returns when all is in force. Packets are dropped where they
// arrive: the sender's kernel does not know.
func (n *Network) Set(links Links) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var changed []int
	for box := 1; box <= Count; box++ {
		for from := 1; from <= Count; from++ {
			if links[from][box] != n.now[from][box] {
				changed = append(changed, box)
				break
			}
		}
	}
	failures := make([]error, len(changed))
	var all sync.WaitGroup
	for i, box := range changed {
		all.Go(func() {
			var rules strings.Builder
			fmt.Fprintf(&rules, "flush chain ip %s heard\n", table)
			for from := 1; from <= Count; from++ {
				if links[from][box] {
					fmt.Fprintf(&rules, "add rule ip %s heard ip saddr %s drop\n", table, n.PeerAddress(from))
				}
			}
			failures[i] = n.nft(box, rules.String())
		})
	}
	all.Wait()
	n.now = links
	return errors.Join(failures...)
}

func (n *Network) nft(box int, rules string) error {
	return command(rules, "ip", "netns", "exec", n.Namespace(box), "nft", "-f", "-")
}

// Close removes everything. The processes in the namespaces must have ended.
func (n *Network) Close() error { return remove(n.name) }

// remove takes the namespaces and the bridges of a run away. Links end with their namespaces; a bridge that is not there
// any more is no failure.
func remove(name string) error {
	var failures []error
	for box := 1; box <= Count; box++ {
		if ns := fmt.Sprintf("%s-%d", name, box); exists("/run/netns/" + ns) {
			failures = append(failures, command("", "ip", "netns", "del", ns))
		}
	}
	for _, bridge := range []string{"p", "c"} {
		if exists("/sys/class/net/" + name + bridge) {
			failures = append(failures, command("", "ip", "link", "del", name+bridge))
		}
		for box := 1; box <= Count; box++ { // a namespace ends a moment after its name
			if outer := fmt.Sprintf("%s%s%d", name, bridge, box); exists("/sys/class/net/" + outer) {
				_ = command("", "ip", "link", "del", outer) // it may be gone by now
			}
		}
	}
	return errors.Join(failures...)
}

// sweep removes what runs have left that were killed.
func sweep() error {
	var failures []error
	for _, dir := range []string{"/run/netns", "/sys/class/net"} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			rest, ours := strings.CutPrefix(e.Name(), namePrefix)
			digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
			if !ours || digits < 1 || exists("/proc/"+rest[:digits]) {
				continue
			}
			failures = append(failures, remove(namePrefix+rest[:digits]))
		}
	}
	return errors.Join(failures...)
}

// Octet is what NewNetwork takes to make the same addresses again.
func (n *Network) Octet() int { return n.octet }

// freeOctet finds addresses that no other run on this machine has.
func freeOctet(asked int) (int, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return 0, err
	}
	used := map[string]bool{}
	for _, a := range addresses {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil {
			used[ip.String()] = true
		}
	}
	if asked != 0 {
		if used[fmt.Sprintf("198.19.%d.254", asked)] {
			return 0, fmt.Errorf("the network 198.19.%d.x is in use, by another run of the same", asked)
		}
		return asked, nil
	}
	for try := range 250 {
		octet := (os.Getpid()+try)%250 + 1
		if !used[fmt.Sprintf("198.19.%d.254", octet)] {
			return octet, nil
		}
	}
	return 0, errors.New("every network 198.19.x.0/24 is in use")
}

// command runs a command and reports what it says when it fails.
func command(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
