// Command gozookeeper checks an ensemble with go-zookeeper: sessions that outlive their server, watches that are caught up
// with, reconfiguration under load, pipelined operations. ENSEMBLE names the port of ../servers.py that takes orders.
// It prints a line for each check and exits with 1 if one failed.
package main
