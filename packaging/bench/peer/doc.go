// Command peer measures cairn beside Apache ZooKeeper: one server and three of each, set up by the same zoo.cfg, driven by
// the same client, turn by turn in the order A B B A, and prints what both did, with ratios.
//
// It starts only its own servers, ends only those, and works in one directory that it was given. One thing is measured at
// a time; the servers whose turn it is not are there and idle. A missed target is printed as MISSED and is no failure; a
// program that fails is.
package main
