package catalog

import "errors"

// Errors that a Tree gives. The adapter maps the ensemble's own errors to these; callers use errors.Is.
var (
	// ErrNoNode, ErrNodeExists, ErrBadVersion and ErrNotEmpty are the outcome of one operation of a Multi, which was
	// then not applied at all.
	ErrNoNode     = errors.New("no such znode")
	ErrNodeExists = errors.New("znode exists")
	ErrBadVersion = errors.New("znode has another version")
	ErrNotEmpty   = errors.New("znode has children")
	// ErrRolledBack marks the operations of a failed Multi that would have succeeded.
	ErrRolledBack = errors.New("rolled back with its multi")
	// ErrNotLeader, ErrNoQuorum, ErrBusy, ErrFull and ErrClosed mean that nothing was applied. ErrBusy passes by itself,
	// ErrFull does not.
	ErrNotLeader = errors.New("this box is not the leader")
	ErrNoQuorum  = errors.New("no quorum")
	ErrBusy      = errors.New("too much is under way")
	ErrFull      = errors.New("the tree takes no more")
	ErrClosed    = errors.New("closed")
	// ErrUncertain means that the write may or may not have been applied; a read index settles it.
	ErrUncertain = errors.New("outcome unknown")
)

// Tree is what the broker needs of the replicated znode tree. No method blocks; completions and subscriptions are called
// on the goroutine that applies entries, so they must only post or publish.
type Tree interface {
	// Read gives a znode as this box has applied it. data is borrowed and must not be modified.
	Read(path string) (data []byte, version int32, ok bool)
	// Multi applies all operations in one transaction or none. done is called exactly once, after the batch that holds
	// the changes was delivered to every subscriber. results has one entry per operation when the transaction was
	// applied or refused by the tree; err is nil only when it was applied. It takes ownership of ops.
	Multi(ops []Op, done func(results []OpResult, err error))
	// ReadIndex calls done(nil) once this box has applied everything that was committed before the call.
	ReadIndex(done func(err error))
	// Subscribe first delivers the present state below prefix as one batch with Reset set, then every applied batch's
	// changes below prefix, in order, each batch one call.
	Subscribe(prefix string, f func(Batch))
	// Leadership calls f with the present state and at every change.
	Leadership(f func(Leadership))
	// Register holds the znode for as long as this box's session lives; a new incarnation replaces the old in one
	// transaction, with a new czxid. The data of one that this box holds is changed by a Multi, and the czxid stays. done is
	// called once with the first outcome.
	Register(r Registration, done func(err error))
}

// Leadership says whether this box leads the ensemble.
type Leadership struct {
	Leader bool
	// Term is the raft term of the statement. It never goes back.
	Term uint64
}

// Registration is a znode that lives with its box.
type Registration struct {
	Path string
	Data []byte
}

// OpKind is the kind of one operation of a Multi.
type OpKind uint8

// The kinds of operation.
const (
	OpCreate OpKind = iota // create a persistent znode; ErrNodeExists, ErrNoNode for a missing parent
	OpSet                  // replace the data
	OpDelete               // delete; ErrNotEmpty
	OpCheck                // compare the version only
)

// String is the word that scripts and errors use.
func (k OpKind) String() string {
	switch k {
	case OpCreate:
		return "create"
	case OpSet:
		return "set"
	case OpDelete:
		return "delete"
	case OpCheck:
		return "check"
	}
	return "unknown"
}

// AnyVersion as an Op's version matches every version of an existing znode.
const AnyVersion int32 = -1

// Op is one operation of a Multi.
type Op struct {
	Kind    OpKind
	Path    string
	Data    []byte // OpCreate, OpSet
	Version int32  // OpSet, OpDelete, OpCheck; AnyVersion matches all
}

// Size is the number of bytes that the operation adds to an entry, rounded up generously.
func (o Op) Size() int { return len(o.Path) + len(o.Data) + 64 }

// OpResult is the outcome of one operation.
type OpResult struct {
	Err     error // nil, or one of the errors above
	Version int32 // the znode's version after OpCreate or OpSet
}

// ChangeKind says what happened to a znode.
type ChangeKind uint8

// The kinds of change.
const (
	Created ChangeKind = iota
	Changed            // the data was set
	Deleted
)

// Change is one change of one znode. Data is immutable once delivered.
type Change struct {
	Kind    ChangeKind
	Path    string
	Data    []byte
	Version int32 // data version after the change
	Czxid   int64 // zxid that created the znode
	Mzxid   int64 // zxid that changed it last; 0 stands for the batch's
}

// Batch is what one applied batch changed, in the order in which it was applied.
type Batch struct {
	// Zxid is the last applied zxid.
	Zxid int64
	// Reset says that the changes are the whole present state, all Created, parents before children; what was known
	// before is forgotten.
	Reset   bool
	Changes []Change
}
