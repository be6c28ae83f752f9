package jute

// Op is one operation as a request or as a part of a multi: the union of the request records of the write ops (and, in
// a multiRead, of getData and getChildren, whose watch flag ZooKeeper does not look at there).
type Op struct {
	Type OpCode
	// Version is what delete, setData, setACL and check expect; -1 is any.
	Version int32
	// Flags is the create mode of the creates.
	Flags int32
	Path  string
	// Data of create and setData; nil is null. Borrowed from the frame when decoded.
	Data []byte
	ACL  []ACL
	// TTL in milliseconds, of createTTL alone.
	TTL int64
}

// ReadBody decodes the request record that belongs to o.Type. It fails for a type that has none here.
func (o *Op) ReadBody(r *Reader) {
	switch o.Type {
	case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL:
		o.Path, o.Data, o.ACL, o.Flags = r.String(), r.Buffer(), r.ACLs(), r.Int32()
		if o.Type == OpCreateTTL {
			o.TTL = r.Int64()
		}
	case OpDelete, OpCheck:
		o.Path, o.Version = r.String(), r.Int32()
	case OpSetData:
		o.Path, o.Data, o.Version = r.String(), r.Buffer(), r.Int32()
	case OpSetACL:
		o.Path, o.ACL, o.Version = r.String(), r.ACLs(), r.Int32()
	case OpGetData, OpGetChildren:
		o.Path = r.String()
		r.Bool()
	case OpDeleteContainer:
		o.Path = r.String()
	default:
		r.Fail("op %v has no request record", o.Type)
	}
}

// AppendBody encodes the request record that belongs to o.Type.
func (o *Op) AppendBody(dst []byte) []byte {
	dst = AppendString(dst, o.Path)
	switch o.Type {
	case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL:
		dst = AppendInt32(AppendACLs(AppendBuffer(dst, o.Data), o.ACL), o.Flags)
		if o.Type == OpCreateTTL {
			dst = AppendInt64(dst, o.TTL)
		}
	case OpDelete, OpCheck:
		dst = AppendInt32(dst, o.Version)
	case OpSetData:
		dst = AppendInt32(AppendBuffer(dst, o.Data), o.Version)
	case OpSetACL:
		dst = AppendInt32(AppendACLs(dst, o.ACL), o.Version)
	case OpGetData, OpGetChildren:
		dst = AppendBool(dst, false)
	}
	return dst
}

// MultiHeader precedes every part of a multi, both ways, and ends it with {-1, true, -1}.
type MultiHeader struct {
	Type OpCode
	Done bool
	Err  int32
}

// Append encodes the record.
func (h *MultiHeader) Append(dst []byte) []byte {
	return AppendInt32(AppendBool(AppendInt32(dst, int32(h.Type)), h.Done), h.Err)
}

// Read decodes the record.
func (h *MultiHeader) Read(r *Reader) {
	h.Type, h.Done, h.Err = OpCode(r.Int32()), r.Bool(), r.Int32()
}

// multiKind tells the two kinds of multi apart, which do not mix (Op.OpKind).
func multiKind(o OpCode) OpCode {
	switch o {
	case OpCreate, OpCreate2, OpCreateTTL, OpCreateContainer, OpDelete, OpSetData, OpCheck:
		return OpMulti
	case OpGetData, OpGetChildren:
		return OpMultiRead
	}
	return OpError
}

// ReadMulti decodes the body of a multi (kind OpMulti: create, create2, createTTL, createContainer, delete, setData,
// check) or of a multiRead (kind OpMultiRead: getData, getChildren). What is neither, or mixes them, or has more than
// opsMax operations, is malformed: the server answers MarshallingError (MultiOperationRecord.deserialize).
func ReadMulti(r *Reader, kind OpCode, opsMax int) []Op {
	scan := *r
	count := 0
	for ; ; count++ {
		var op Op
		if !readPart(&scan, kind, &op, true) {
			break
		}
		if count == opsMax {
			scan.Fail("more than %d operations in one multi", opsMax)
			break
		}
	}
	if scan.err != nil {
		*r = scan
		return nil
	}
	ops := make([]Op, count)
	for i := range ops {
		readPart(r, kind, &ops[i], false)
	}
	var end MultiHeader
	end.Read(r)
	return ops
}

// readPart reads one operation of a multi. It returns false at the end and after an error. To count, it skips what
// would have to be allocated.
func readPart(r *Reader, kind OpCode, op *Op, skip bool) bool {
	var h MultiHeader
	h.Read(r)
	if r.err != nil || h.Done {
		return false
	}
	if multiKind(h.Type) != kind {
		r.Fail("op %v in a %v", h.Type, kind)
		return false
	}
	op.Type = h.Type
	if skip {
		skipBody(r, op.Type)
	} else {
		op.ReadBody(r)
	}
	return r.err == nil
}

// skipBody passes over a request record without allocating.
func skipBody(r *Reader, op OpCode) {
	r.Buffer()
	switch op {
	case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL:
		r.Buffer()
		for n := r.Count(aclMin); n > 0 && r.err == nil; n-- {
			r.Int32()
			r.Buffer()
			r.Buffer()
		}
		r.Int32()
		if op == OpCreateTTL {
			r.Int64()
		}
	case OpDelete, OpCheck:
		r.Int32()
	case OpSetData:
		r.Buffer()
		r.Int32()
	case OpGetData, OpGetChildren:
		r.Bool()
	}
}

// AppendMulti encodes the body of a multi or multiRead.
func AppendMulti(dst []byte, ops []Op) []byte {
	for i := range ops {
		h := MultiHeader{Type: ops[i].Type, Err: -1}
		dst = ops[i].AppendBody(h.Append(dst))
	}
	return AppendMultiEnd(dst)
}

// AppendMultiEnd encodes the header that ends a multi, both ways.
func AppendMultiEnd(dst []byte) []byte {
	h := MultiHeader{Type: OpError, Done: true, Err: -1}
	return h.Append(dst)
}

// OpResult is one part of the answer to a multi or multiRead (OpResult.java). An error has Type OpError.
type OpResult struct {
	Type     OpCode
	Err      Code
	Path     string
	Stat     Stat
	Data     []byte
	Children []string
}

// Append encodes the part. All creates with a Stat are reported as create2, as ZooKeeper does.
func (p *OpResult) Append(dst []byte) []byte {
	t := p.Type
	if t == OpCreateTTL || t == OpCreateContainer {
		t = OpCreate2
	}
	h := MultiHeader{Type: t, Err: int32(p.Err)}
	dst = h.Append(dst)
	switch t {
	case OpCreate:
		dst = AppendString(dst, p.Path)
	case OpCreate2:
		dst = p.Stat.Append(AppendString(dst, p.Path))
	case OpSetData:
		dst = p.Stat.Append(dst)
	case OpGetData:
		dst = p.Stat.Append(AppendBuffer(dst, p.Data))
	case OpGetChildren:
		dst = AppendStrings(dst, p.Children)
	case OpError:
		dst = AppendInt32(dst, int32(p.Err))
	}
	return dst
}

// ReadMultiResponse decodes the body of the answer to a multi or multiRead.
func ReadMultiResponse(r *Reader, opsMax int) []OpResult {
	var results []OpResult
	for {
		var h MultiHeader
		h.Read(r)
		if r.err != nil || h.Done {
			return results
		}
		if len(results) == opsMax {
			r.Fail("more than %d results in one multi", opsMax)
			return nil
		}
		p := OpResult{Type: h.Type, Err: Code(h.Err)}
		switch h.Type {
		case OpCreate:
			p.Path = r.String()
		case OpCreate2:
			p.Path = r.String()
			p.Stat.Read(r)
		case OpSetData:
			p.Stat.Read(r)
		case OpGetData:
			p.Data = r.Buffer()
			p.Stat.Read(r)
		case OpGetChildren:
			p.Children = r.Strings()
		case OpError:
			p.Err = Code(r.Int32())
		case OpDelete, OpCheck:
		default:
			r.Fail("result of op %v in a multi", h.Type)
		}
		results = append(results, p)
	}
}
