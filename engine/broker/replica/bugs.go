package replica

// Bug is a mistake on purpose. A simulation that does not notice it is worth nothing.
type Bug uint8

// The bugs.
const (
	// VouchByPosition has followers vouch for what they have fetched, flushed or not.
	VouchByPosition Bug = iota
	// LeadOldEpochs lets a box lead in an epoch that its log holds already.
	LeadOldEpochs
)

// bugs are those that were asked for.
type bugs [LeadOldEpochs + 1]bool

// WithBug returns the configuration with a bug. It wants a test to be given, so that nothing else can ask for it.
func (c ShardsConfig) WithBug(t interface{ Helper() }, b Bug) ShardsConfig {
	t.Helper()
	c.bugs[b] = true
	return c
}
