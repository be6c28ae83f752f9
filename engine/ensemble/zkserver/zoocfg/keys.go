package zoocfg

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fileKeys are the keys of zoo.cfg that QuorumPeerConfig 3.9.5 has fields for, and cairn's own. Those that have no effect here are checked
// like the others and named in idleFileKeys.
var fileKeys = map[string]func(l *loader, value string) error{
	"dataDir":                 func(l *loader, v string) error { l.c.DataDir = v; return nil },
	"dataLogDir":              func(l *loader, v string) error { l.c.DataLogDir = v; return nil },
	"clientPort":              func(l *loader, v string) error { return setPort(&l.clientPort, v) },
	"secureClientPort":        func(l *loader, v string) error { return setPort(&l.securePort, v) },
	"clientPortAddress":       func(l *loader, v string) error { l.clientAddress = v; return nil },
	"secureClientPortAddress": func(l *loader, v string) error { l.secureAddress = v; return nil },
	"clientPortListenBacklog": func(l *loader, v string) error { return setInt(&l.c.ListenBacklog, v) },
	"tickTime":                func(l *loader, v string) error { return setMillis(&l.c.TickTime, v) },
	"minSessionTimeout":       func(l *loader, v string) error { return setMillis(&l.c.MinSessionTimeout, v) },
	"maxSessionTimeout":       func(l *loader, v string) error { return setMillis(&l.c.MaxSessionTimeout, v) },
	"maxClientCnxns":          func(l *loader, v string) error { return setInt(&l.c.MaxClientConnections, v) },
	"initLimit":               func(l *loader, v string) error { return setInt(&l.c.InitLimit, v) },
	"syncLimit":               func(l *loader, v string) error { return setInt(&l.c.SyncLimit, v) },
	"electionAlg": func(_ *loader, v string) error {
		var alg int
		if err := setInt(&alg, v); err != nil {
			return err
		}
		if alg != 3 {
			return errors.New("Invalid electionAlg value. Only 3 is supported.") //nolint:staticcheck // ZooKeeper's message
		}
		return nil
	},
	"peerType": func(l *loader, v string) error {
		switch strings.ToLower(v) {
		case "observer":
			l.c.Observer = true
		case "participant":
			l.c.Observer = false
		default:
			return fmt.Errorf("Unrecognised peertype: %s", v) //nolint:staticcheck // ZooKeeper's message
		}
		return nil
	},
	"dynamicConfigFile":             func(l *loader, v string) error { l.dynamicFile = v; return nil },
	"autopurge.snapRetainCount":     func(l *loader, v string) error { return setInt(&l.c.SnapshotsRetained, v) },
	"autopurge.purgeInterval":       func(l *loader, v string) error { return setInt(&l.c.PurgeInterval, v) },
	"standaloneEnabled":             func(l *loader, v string) error { return setBool(&l.c.StandaloneEnabled, v) },
	"reconfigEnabled":               func(l *loader, v string) error { return setBool(&l.c.ReconfigEnabled, v) },
	"localSessionsEnabled":          func(l *loader, v string) error { return setBool(&l.c.LocalSessions, v) },
	"localSessionsUpgradingEnabled": func(l *loader, v string) error { return setBool(&l.c.UpgradeSessions, v) },
	"cairn.linearizableReads":       func(l *loader, v string) error { return setBool(&l.c.LinearizableReads, v) },
	"metricsProvider.className":     func(l *loader, v string) error { l.c.MetricsProvider = v; return nil },
	"multiAddress.enabled": func(l *loader, v string) error {
		var on bool
		if err := setBool(&on, v); err != nil {
			return err
		}
		l.c.Properties[propertyPrefix+"multiAddress.enabled"] = strconv.FormatBool(on)
		return nil
	},
	"multiAddress.reachabilityCheckTimeoutMs": checkInt,
	"multiAddress.reachabilityCheckEnabled":   checkBool,
	"quorum.auth.enableSasl":                  func(l *loader, v string) error { return setBool(&l.quorumSASL, v) },
	"quorum.auth.serverRequireSasl":           func(l *loader, v string) error { return setBool(&l.serverSASL, v) },
	"quorum.auth.learnerRequireSasl":          func(l *loader, v string) error { return setBool(&l.learnerSASL, v) },
	"quorum.auth.learner.saslLoginContext":    accept,
	"quorum.auth.server.saslLoginContext":     accept,
	"quorum.auth.kerberos.servicePrincipal":   accept,
	"quorum.cnxn.threads.size":                checkInt,
	"observerMasterPort":                      checkInt,
	"connectToLearnerMasterLimit":             checkInt,
	"quorumListenOnAllIPs":                    checkBool,
	"syncEnabled":                             checkBool,
	"sslQuorum":                               checkBool,
	"portUnification":                         checkBool,
	"sslQuorumReloadCertFiles":                checkBool,
	"jvm.pause.info-threshold.ms":             checkInt,
	"jvm.pause.warn-threshold.ms":             checkInt,
	"jvm.pause.sleep.time.ms":                 checkInt,
	"jvm.pause.monitor":                       checkBool,
	"oraclePath":                              accept,
}

// inTheClear and ownPeers say what is otherwise between the servers of an ensemble.
const (
	inTheClear = "servers speak to each other in the clear and without a login yet: keep them to a network that you trust"
	ownPeers   = "servers speak to each other over one connection each, on the first port of a server.N line"
)

// idleFileKeys say why a key that is read changes nothing.
var idleFileKeys = map[string]string{
	"quorum.auth.enableSasl":      inTheClear,
	"observerMasterPort":          ownPeers,
	"connectToLearnerMasterLimit": ownPeers,
	"quorum.cnxn.threads.size":    ownPeers,
	"sslQuorum":                   inTheClear,
	"portUnification":             inTheClear,
	"oraclePath":                  "there is no oracle: most voters decide",
	"jvm.pause.monitor":           "there is no JVM",
	"secureClientPort":            "TLS for ZooKeeper clients is not served yet",
}

// usedProperties are the system properties that change something here, without their "zookeeper." prefix.
var usedProperties = []string{
	"4lw.commands.whitelist", "DigestAuthenticationProvider.superDigest", "DigestAuthenticationProvider.digestAlg",
	"admin.commandURL", "admin.enableServer", "admin.idleTimeout", "admin.restore.enabled", "admin.serverAddress",
	"admin.serverPort", "admin.snapshot.enabled",
	"datadir.autocreate", "emulate353TTLNodes", "enforce.auth.enabled", "enforce.auth.schemes", "enforceQuota",
	"ensembleAuthName", "extendedTypesEnabled", "flushDelay", "globalOutstandingLimit", "largeRequestMaxBytes", "largeRequestThreshold",
	"maxCnxns", "multiAddress.enabled", "nio.sessionlessCnxnTimeout", "readonlymode.enabled", "skipACL", "snapCount",
}

// idleProperties are properties of ZooKeeper whose absence of effect may surprise.
var idleProperties = map[string]string{
	"forceSync":                         "every acknowledged write is flushed to the disk",
	"jute.maxbuffer":                    "ZooKeeper reads it from -Djute.maxbuffer alone",
	"ssl.":                              "TLS for ZooKeeper clients is not served yet",
	"authProvider.":                     "the schemes world, auth, digest, ip and ensemble are built in, and no others are served yet",
	"audit.enable":                      "there is no audit log yet",
	"sasl.":                             "SASL is not served yet",
	"request_throttle_stall_time":       "a request that waits for others is told when there is room",
	"request_stale_connection_check":    "a request that has to wait is not carried out once its connection has ended",
	"request_throttler.shutdownTimeout": "a server that stops closes its connections at once",
}

// warnProperty says what a key of the file that became a property will not do.
func (l *loader) warnProperty(property, key string) {
	name := strings.TrimPrefix(property, propertyPrefix)
	if slices.Contains(usedProperties, name) || slices.Contains(throttleProperties, name) {
		return
	}
	for prefix, why := range idleProperties {
		if strings.HasPrefix(name, prefix) {
			l.warn("%s has no effect here: %s", key, why)
			return
		}
	}
	l.warn("%s is kept as the property %s and has no effect here", key, property)
}

// fromProperties fills the fields that ZooKeeper reads from system properties.
func (l *loader) fromProperties() {
	c, p := l.c, l.c.Properties
	prop := func(key string) string { return propertyPrefix + key }
	millis := func(key string, fallback int) time.Duration {
		return time.Duration(max(p.Int(key, fallback), 0)) * time.Millisecond
	}
	c.LinearizableReads = c.LinearizableReads || p.Bool("cairn.linearizableReads", false)
	// ZooKeeper takes this one as -D alone; a line of the file says it as plainly.
	c.ReadOnlyMode = p.Bool("readonlymode.enabled", false) || p.Bool(prop("readonlymode.enabled"), false)
	if c.LocalSessions && c.Standalone() {
		l.warn("localSessionsEnabled has no effect here: a server that stands alone has nobody to replicate sessions to")
		c.LocalSessions = false
	}
	if c.ReadOnlyMode && c.Standalone() {
		l.warn("readonlymode.enabled has no effect here: a server that stands alone never lacks the others")
	}
	c.FourLetterWords = fourLetterWords(p.String(prop("4lw.commands.whitelist"), ""), c.ReadOnlyMode)
	c.SuperDigest = p.String(prop("DigestAuthenticationProvider.superDigest"), "")
	c.DigestAlgorithm = p.String(prop("DigestAuthenticationProvider.digestAlg"), "SHA1")
	c.EnsembleNames = list(p.String(prop("ensembleAuthName"), ""))
	c.SkipACL = p.String(prop("skipACL"), "no") == "yes"
	if p.Bool(prop("enforce.auth.enabled"), false) {
		c.EnforceAuthSchemes = list(p.String(prop("enforce.auth.schemes"), ""))
	}
	c.ExtendedTypes = p.Bool(prop("extendedTypesEnabled"), false)
	c.Emulate353TTL = p.Bool(prop("emulate353TTLNodes"), false)
	c.EnforceQuota = p.Bool(prop("enforceQuota"), false)
	c.FrameBytesMax = p.Int("jute.maxbuffer", frameBytesDefault)
	if c.FrameBytesMax < frameBytesLeast {
		l.warn("jute.maxbuffer of %d bytes is too small to serve with; %d is used", c.FrameBytesMax, frameBytesLeast)
		c.FrameBytesMax = frameBytesLeast
	}
	c.OutstandingMax = max(p.Int(prop("globalOutstandingLimit"), outstandingDefault), 1)
	c.MaxConnections = max(p.Int(prop("maxCnxns"), 0), 0)
	c.LargeRequestThreshold = p.Int(prop("largeRequestThreshold"), -1)
	if c.LargeRequestThreshold == 0 || c.LargeRequestThreshold < -1 {
		l.warn("Invalid large request threshold %d. It should be -1 or positive. Setting to -1", c.LargeRequestThreshold)
		c.LargeRequestThreshold = -1
	}
	c.LargeRequestBytesMax = p.Int(prop("largeRequestMaxBytes"), largeRequestBytesDefault)
	if c.LargeRequestBytesMax <= 0 {
		l.warn("Invalid max bytes for all large requests %d. It should be a positive number.", c.LargeRequestBytesMax)
		c.LargeRequestBytesMax = largeRequestBytesDefault
	}
	c.ConnectionThrottle, c.RequestThrottle = l.connectionThrottle(), l.requestThrottle()
	c.HandshakeTimeout = millis(prop("nio.sessionlessCnxnTimeout"), sessionlessTimeoutDefault)
	if c.FlushDelay = millis(prop("flushDelay"), 0); c.FlushDelay == 0 && p.String(prop("flushDelay"), "") != "" {
		c.FlushDelay = -1
	}
	c.SnapshotEvery = max(p.Int(prop("snapCount"), snapCountDefault), 2)
	c.ContainerCheckInterval = millis("znode.container.checkIntervalMs", containerCheckDefault)
	c.ContainerPerMinuteMax = max(p.Int("znode.container.maxPerMinute", containerPerMinuteDefault), 0)
	c.ContainerNeverUsed = millis("znode.container.maxNeverUsedIntervalMs", 0)
	c.DataDirAutoCreate = p.Bool(prop("datadir.autocreate"), true)
	c.Admin = Admin{
		Enabled:     p.String(prop("admin.enableServer"), "true") == "true",
		Address:     hostPort(anyHost(p.String(prop("admin.serverAddress"), "")), p.Int(prop("admin.serverPort"), adminPortDefault)),
		CommandURL:  p.String(prop("admin.commandURL"), "/commands"),
		IdleTimeout: millis(prop("admin.idleTimeout"), adminIdleDefault),
	}
	if c.DigestAlgorithm != "SHA1" {
		l.warn("DigestAuthenticationProvider.digestAlg=%s has no effect here: digests are SHA1", c.DigestAlgorithm)
	}
}

func anyHost(host string) string {
	if host == "0.0.0.0" {
		return ""
	}
	return host
}

// fourLetterWords is FourLetterCommands' reading of the whitelist: srvr is always allowed, isro if the server may be
// read-only, and "*" is all of them.
func fourLetterWords(whitelist string, readOnlyMode bool) []string {
	words := []string{wordSrvr}
	if readOnlyMode {
		words = append(words, wordIsro)
	}
	for _, w := range list(whitelist) {
		if w == wordAll {
			return []string{wordAll}
		}
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}

func list(s string) []string {
	var out []string
	for _, w := range strings.Split(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

func setInt(to *int, value string) error {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return fmt.Errorf("For input string: %q", value) //nolint:staticcheck // Java's message
	}
	*to = int(n)
	return nil
}

func setPort(to *int, value string) error {
	if err := setInt(to, value); err != nil {
		return err
	}
	if *to < 0 || *to > 65535 {
		return fmt.Errorf("port out of range:%d", *to)
	}
	return nil
}

func setMillis(to *time.Duration, value string) error {
	var n int
	if err := setInt(&n, value); err != nil {
		return err
	}
	*to = time.Duration(n) * time.Millisecond
	return nil
}

func setBool(to *bool, value string) error {
	switch strings.ToLower(value) {
	case "true":
		*to = true
	case "false":
		*to = false
	default:
		return badBoolError(value)
	}
	return nil
}

// badBoolError is a value that should have been true or false; set puts the key into ZooKeeper's sentence.
type badBoolError string

func (e badBoolError) Error() string {
	return fmt.Sprintf("Invalid option %s. Choose 'true' or 'false.'", string(e))
}

func accept(*loader, string) error { return nil }

func checkInt(_ *loader, value string) error {
	var n int
	return setInt(&n, value)
}

func checkBool(_ *loader, value string) error {
	var b bool
	return setBool(&b, value)
}
