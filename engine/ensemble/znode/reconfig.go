package znode

import (
	"slices"
	"strconv"

	"cairn/engine/ensemble/jute"
)

// PathConfig is the znode of the ensemble's configuration.
const PathConfig = pathConfig

// reconfig changes who belongs to the ensemble, as far as the tree says so. The right to do it is looked at last, as in
// PrepRequestProcessor.
func (x *txn) reconfig() jute.Code {
	ops := x.e.Ops
	if err := x.checkSession(); err != jute.OK {
		return err
	}
	if len(ops) == 1 && ops[0].Type == jute.OpError {
		return jute.Code(ops[0].Version)
	}
	id, hash := x.t.lookup(pathConfig)
	if !x.permits(id, jute.PermWrite) {
		return jute.NoAuth
	}
	x.acc = Access{Internal: true}
	if err := x.multi(); err != jute.OK {
		return err
	}
	if x.e.Data != nil {
		x.replaceData(id, hash, pathConfig, configData(x.e.Data, x.zxid), -1)
	}
	x.out.Results, x.out.Config = []Result{{Type: jute.OpReconfig, Stat: x.t.stat(id)}}, x.t.data(id)
	return jute.OK
}

// configData ends with its own version, and the node's version is -1 (QuorumMaj.toString, PrepRequestProcessor).
func configData(lines []byte, zxid int64) []byte {
	data := slices.Clone(lines)
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return strconv.AppendUint(append(data, "version="...), uint64(zxid), 16)
}
