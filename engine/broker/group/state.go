package group

// State is where a group is in the classic protocol (ClassicGroupState).
type State uint8

// The states. A group goes Empty → PreparingRebalance → CompletingRebalance → Stable, back to PreparingRebalance whenever
// its members change, and from there to Empty when none is left.
const (
	Empty State = iota
	// PreparingRebalance: members are being gathered; their JoinGroups wait.
	PreparingRebalance
	// CompletingRebalance: the generation is fixed; SyncGroups wait for the leader's assignment.
	CompletingRebalance
	Stable
	// Dead is the state that clients are shown of a group that does not exist.
	Dead
)

// String is the state's name on the wire.
func (s State) String() string {
	switch s {
	case Empty:
		return "Empty"
	case PreparingRebalance:
		return "PreparingRebalance"
	case CompletingRebalance:
		return "CompletingRebalance"
	case Stable:
		return "Stable"
	default:
		return "Dead"
	}
}
