// Package vfs gives files as values: the operating system's, a crashable memory file system, and a wrapper that injects
// errors; and over any of them a cache of open files and mappings. Rooms that store bytes take an FS at construction and
// name no other source of files, so that the shipped code is what the crash tests run. It starts no goroutine. It must
// not know what the bytes mean.
package vfs
