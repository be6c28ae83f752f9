// Command floor is what the bench compares cairn with: the least that a server can do for the same bytes from the same
// client. `floor produce` writes frames in groups to a flushed file and echoes a response; `floor fetch` sends a file by
// sendfile; `floor echo` answers a frame with a frame. It parses no more than lengths, ids and offsets, checks nothing, and
// keeps no state: what a real server does beyond it is the distance that the bench shows.
//
// One goroutine for each connection; produce has one more, which owns the file. It prints its address when it listens and
// ends when its standard input does.
package main
