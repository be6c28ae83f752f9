// Command catchup measures what a large tree costs: how a server that was away is brought a snapshot of it while the others
// serve, what that does to the leader's heap, and what a million znodes take in memory and in time to restart.
//
// It starts only its own servers, ends only those, and works in one directory that it was given. Every wait has an end. A
// missed target is printed as MISSED and is no failure; a program that fails is.
package main
