package znode

// ZooKeeper writes into one 64-bit field of a stored node, ephemeralOwner, what the node is. This tree keeps the kind
// beside the owner, so that no switch of configuration can change what a node is; the packed form is met where data come
// from or go to a ZooKeeper (its snapshots and transaction logs).

// OwnerKind says what a packed owner means (EphemeralType).
type OwnerKind int

// The kinds of packed owners.
const (
	OwnerVoid      OwnerKind = iota // a persistent node
	OwnerSession                    // an ephemeral of the session that the number names
	OwnerContainer                  // a container
	OwnerTTL                        // a TTL node
	OwnerInvalid                    // the high byte of extended types with a type that 3.9.5 does not know
)

const (
	// ContainerOwner is the packed owner of a container.
	ContainerOwner = -1 << 63

	extendedMask = uint64(0xff) << 56
	extendedType = uint64(0xffff) << 40
)

// DecodeOwner reads a packed owner as a ZooKeeper does that runs with zookeeper.extendedTypesEnabled and
// zookeeper.emulate353TTLNodes set so. ttlMs is the TTL of OwnerTTL. Version 3.5.3 marked TTL nodes by the sign alone;
// under the emulation every negative owner but a container's is one, and its TTL are the low 40 bits.
func DecodeOwner(owner int64, extended, emulate353 bool) (kind OwnerKind, ttlMs int64) {
	switch {
	case owner == 0:
		return OwnerVoid, 0
	case owner == ContainerOwner:
		return OwnerContainer, 0
	case !extended || owner > 0:
		return OwnerSession, 0
	case emulate353:
		return OwnerTTL, owner & ttlMax
	case uint64(owner)&extendedMask != extendedMask:
		return OwnerSession, 0
	case uint64(owner)&extendedType != 0:
		return OwnerInvalid, 0
	}
	return OwnerTTL, owner & ttlMax
}

// EncodeTTL packs a TTL as every ZooKeeper since 3.5.4 does, also under the emulation. It must lie between 1 ms and 40
// bits.
func EncodeTTL(ttlMs int64) int64 { return int64(extendedMask | uint64(ttlMs)) }
