package zoocfg

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Source is where a configuration comes from.
type Source struct {
	// File is the name of zoo.cfg, for messages and for ReadFile.
	File string
	// JVMFlags are SERVER_JVMFLAGS and JVMFLAGS, in the order in which a JVM would see them: later ones win.
	JVMFlags []string
	// ReadFile reads a whole small file (os.ReadFile). A file that does not exist is an error that is fs.ErrNotExist.
	ReadFile func(name string) ([]byte, error)
}

// Load reads and checks a configuration. Errors say what ZooKeeper's own say, with the name of the file in front.
func Load(src Source) (*Config, error) {
	text, err := src.ReadFile(src.File)
	if err != nil {
		return nil, fmt.Errorf("Error processing %s: %w", src.File, err) //nolint:staticcheck // ZooKeeper's message
	}
	l := loader{src: src, c: defaults()}
	l.c.File, l.c.Text = src.File, string(text)
	for _, flags := range src.JVMFlags {
		l.c.Properties.jvmFlags(flags)
	}
	if err := l.load(text); err != nil {
		return nil, fmt.Errorf("Error processing %s: %w", src.File, err) //nolint:staticcheck // ZooKeeper's message
	}
	return l.c, nil
}

func defaults() *Config {
	return &Config{
		ListenBacklog:        -1,
		TickTime:             tickTimeDefault * time.Millisecond,
		MinSessionTimeout:    -time.Millisecond,
		MaxSessionTimeout:    -time.Millisecond,
		MaxClientConnections: clientConnectionsDefault,
		ServerID:             serverIDUnset,
		StandaloneEnabled:    true,
		SnapshotsRetained:    snapshotsRetainedMin,
		MetricsProvider:      metricsProviderDefault,
		Metrics:              Properties{},
		Properties:           Properties{},
	}
}

// loader is one Load under way: the configuration so far and what is combined at the end.
type loader struct {
	src Source
	c   *Config

	clientPort, securePort       int // -1 when absent
	clientAddress, secureAddress string
	dynamicFile                  string
	quorumSASL, learnerSASL      bool
	serverSASL                   bool
}

func (l *loader) load(text []byte) error {
	file, err := parseProperties(text)
	if err != nil {
		return err
	}
	l.clientPort, l.securePort = -1, -1
	for _, raw := range sortedKeys(file) {
		key, value := strings.TrimSpace(raw), strings.TrimSpace(file[raw])
		if err := l.set(key, value, file); err != nil {
			return err
		}
	}
	if err := l.combine(); err != nil {
		return err
	}
	servers := file
	if l.dynamicFile != "" {
		if servers, err = l.readDynamic(); err != nil {
			return err
		}
	}
	if err := l.setServers(servers); err != nil {
		return err
	}
	if err := l.readMyID(); err != nil {
		return err
	}
	if err := l.checkServers(); err != nil {
		return err
	}
	l.fromProperties()
	return nil
}

func sortedKeys(p Properties) []string {
	keys := make([]string, 0, len(p))
	for k := range p {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (l *loader) warn(format string, args ...any) {
	l.c.Warnings = append(l.c.Warnings, fmt.Sprintf(format, args...))
}

// set takes one key of the file. A key that QuorumPeerConfig has no field for becomes the system property of that name
// with "zookeeper." before it, and so wins over a -D of the same name.
func (l *loader) set(key, value string, file Properties) error {
	if setter, ok := fileKeys[key]; ok {
		err := setter(l, value)
		if bad, ok := errors.AsType[badBoolError](err); ok {
			return fmt.Errorf("Invalid option %s for %s. Choose 'true' or 'false.'", string(bad), key) //nolint:staticcheck // ZooKeeper's message
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if why, ok := idleFileKeys[key]; ok && !strings.EqualFold(value, "false") && value != "0" {
			l.warn("%s has no effect here: %s", key, why)
		}
		return nil
	}
	isServer := strings.HasPrefix(key, "server.") || strings.HasPrefix(key, "group") || strings.HasPrefix(key, "weight")
	if isServer {
		if _, ok := file["dynamicConfigFile"]; ok {
			return fmt.Errorf("parameter: %s must be in a separate dynamic config file", key)
		}
		if !strings.HasPrefix(key, "server.") {
			l.warn("%s has no effect here: votes have no weights and no groups", key)
		}
		return nil
	}
	if rest, ok := strings.CutPrefix(key, "metricsProvider."); ok {
		l.c.Metrics[rest] = value
		return nil
	}
	l.c.Properties[propertyPrefix+key] = value
	l.warnProperty(propertyPrefix+key, key)
	return nil
}

// combine checks what several keys say together, in the order and words of QuorumPeerConfig.parseProperties.
func (l *loader) combine() error {
	c := l.c
	switch {
	case !l.quorumSASL && l.serverSASL:
		return errors.New("quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.serverRequireSasl")
	case !l.quorumSASL && l.learnerSASL:
		return errors.New("quorum.auth.enableSasl is disabled, so cannot enable quorum.auth.learnerRequireSasl")
	case !l.learnerSASL && l.serverSASL:
		return errors.New("quorum.auth.learnerRequireSasl is disabled, so cannot enable quorum.auth.serverRequireSasl")
	}
	if c.SnapshotsRetained < snapshotsRetainedMin {
		l.warn("Invalid autopurge.snapRetainCount: %d. Defaulting to %d", c.SnapshotsRetained, snapshotsRetainedMin)
		c.SnapshotsRetained = snapshotsRetainedMin
	}
	if c.DataDir == "" {
		return errors.New("dataDir is not set")
	}
	if c.DataLogDir == "" {
		c.DataLogDir = c.DataDir
	}
	for i, dir := range []string{c.DataDir, c.DataLogDir} {
		if i == 1 && dir == c.DataDir {
			break
		}
		if !filepath.IsAbs(dir) && !strings.HasPrefix(dir, ".") {
			l.warn("%s is relative. Prepend ./ to indicate that you're sure!", dir)
		}
	}
	var err error
	if c.ClientAddress, err = address("client", l.clientAddress, l.clientPort); err != nil {
		return err
	}
	if c.SecureClientAddress, err = address("secureClient", l.secureAddress, l.securePort); err != nil {
		return err
	}
	if c.TickTime == 0 {
		return errors.New("tickTime is not set")
	}
	if c.TickTime < 0 {
		return fmt.Errorf("tickTime is %d", c.TickTime.Milliseconds())
	}
	if c.MinSessionTimeout == -time.Millisecond {
		c.MinSessionTimeout = sessionTimeoutTicksMin * c.TickTime
	}
	if c.MaxSessionTimeout == -time.Millisecond {
		c.MaxSessionTimeout = sessionTimeoutTicksMax * c.TickTime
	}
	if c.MinSessionTimeout > c.MaxSessionTimeout {
		return errors.New("minSessionTimeout must not be larger than maxSessionTimeout")
	}
	if c.MetricsProvider != metricsProviderDefault && c.MetricsProvider != metricsProviderPrometheus &&
		c.MetricsProvider != "org.apache.zookeeper.metrics.impl.NullMetricsProvider" {
		return fmt.Errorf("metrics provider class was not found: %s", c.MetricsProvider)
	}
	return nil
}

// address joins a port and an optional host. No port means no listener; a host without a port is a mistake.
func address(name, host string, port int) (string, error) {
	if port < 0 {
		if host != "" {
			return "", fmt.Errorf("%sPortAddress is set but %sPort is not set", name, name)
		}
		return "", nil
	}
	return hostPort(host, port), nil
}

func hostPort(host string, port int) string {
	host = strings.Trim(host, "[]")
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}

// readDynamic reads the file that dynamicConfigFile names: server lines alone.
func (l *loader) readDynamic() (Properties, error) {
	text, err := l.src.ReadFile(l.dynamicFile)
	if err != nil {
		return nil, fmt.Errorf("Error processing %s: %w", l.dynamicFile, err) //nolint:staticcheck // ZooKeeper's message
	}
	p, err := parseProperties(text)
	if err != nil {
		return nil, fmt.Errorf("Error processing %s: %w", l.dynamicFile, err) //nolint:staticcheck // ZooKeeper's message
	}
	if _, ok := p["version"]; ok {
		return nil, errors.New("dynamic file shouldn't have version inside")
	}
	for _, key := range sortedKeys(p) {
		if !strings.HasPrefix(key, "server.") && !strings.HasPrefix(key, "group") && !strings.HasPrefix(key, "weight") {
			return nil, fmt.Errorf("Unrecognised parameter: %s", key) //nolint:staticcheck // ZooKeeper's message
		}
	}
	return p, nil
}

// readMyID reads the first line of myid in the data directory. A missing file is allowed: a standalone server needs none.
func (l *loader) readMyID() error {
	name := filepath.Join(l.c.DataDir, "myid")
	text, err := l.src.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	id, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return fmt.Errorf("serverid %.40s is not a number", line)
	}
	l.c.ServerID = id
	return nil
}
