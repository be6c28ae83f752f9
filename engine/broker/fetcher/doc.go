// Package fetcher keeps the followers of a box up to their leaders. For each broker that leads something which this box
// follows it has one question on its way, about all those partitions at once; what comes back is handed to the replicas, and
// when they have taken it the next question goes out. What a replica then vouches for is told to its leader.
//
// It is a mailbox and a Step. The topics room tells it what to follow; who carries questions and vouchers is given to it
// (Leaders). A question says what has changed since the one before: a follower in sync whose leader has nothing new costs nothing
// but its place in what is asked.
//
// The package must not decide who leads, touch a log itself, or know the wire.
package fetcher
