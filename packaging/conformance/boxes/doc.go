// Package boxes runs three cairn processes as one ensemble, each in a network namespace of its own, for the suites that break
// them: processes are killed and stopped, links between them cut one way or both.
//
// Each box has two links: one to the other boxes, which is cut by dropping what arrives from a box, and one to the clients,
// which never is. A cut is silent, as on a real network: nobody is told.
//
// The Network owns the namespaces and the rules, the Cluster the processes. The caller has one goroutine for the Cluster.
// Only what was started here is ended, and namespaces are removed again, also those that a killed run has left.
package boxes
