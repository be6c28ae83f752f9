// Package carry moves trees in and out of the ensemble: backups as files, and the data of Apache ZooKeeper made into backups
// and backups into it. A backup (the format is znode's) is the one thing that a tree is restored from; all else is turned
// into it first, so that what an import does to a running ensemble is what a restore does.
//
// Nothing here touches a running tree: the ensemble takes backups and restores them (Ensemble.Backup, Ensemble.Restore).
// The package has no goroutine. Files are given as a vfs.FS.
package carry
