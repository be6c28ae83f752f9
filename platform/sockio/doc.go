// Package sockio sends a response out of a connection: bytes from memory and ranges of files, in order, as one unit.
// Large ranges leave a plain TCP connection by sendfile(2) with an explicit offset, small ones and whatever cannot be
// sent that way are copied. It exists because net.TCPConn.ReadFrom moves the file's own offset, which two responses
// would share, and because a header and the file behind it belong into one packet (reference/performance.md).
//
// It starts no goroutine: Send runs on the caller's and blocks until the peer's window took everything, failed, or made
// no progress for too long. It must not know what it sends, and it never closes a connection.
package sockio
