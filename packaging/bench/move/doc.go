// Command move measures what a reassignment does to the clients of a cluster: boxes that replicate serve a steady load of produce
// requests, and meanwhile replicas of another topic move from one box to another under a throttle, set as Kafka's
// kafka-reassign-partitions sets it. It says how fast the bytes came, and how much later the answers were.
//
// It starts only its own boxes, ends only those, and works in one directory that it was given. Every wait has an end. A
// missed target is printed as MISSED and is no failure; a program that fails is.
package main
