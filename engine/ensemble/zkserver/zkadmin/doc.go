// Package zkadmin says what a ZooKeeper server knows about itself, in the two forms that ZooKeeper 3.9.5 has: the
// four-letter words of the client port, and the AdminServer's commands as JSON over HTTP. Both are rendered from the same
// facts, which the server gives through Source, so that they cannot disagree. It exists because monitoring, exporters and
// clients' own test suites parse these texts.
//
// It starts no goroutine: a word is answered on the connection's goroutine, a command on the HTTP server's. It must not
// change the tree or the sessions; commands that do (restore, shed_connections) and the snapshot are refused.
package zkadmin
