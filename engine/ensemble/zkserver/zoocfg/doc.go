// Package zoocfg reads ZooKeeper's own configuration as ZooKeeper 3.9.5 reads it: the zoo.cfg file (Java properties), the
// myid beside the data directory, a dynamic configuration file that zoo.cfg names, and the -D keys of SERVER_JVMFLAGS. It
// exists so that a ZooKeeper can be replaced by cairn with its files left as they are. It gives one plain Config; engine/node
// makes the rooms' own Configs of it. It is pure: files are read through a function that the caller gives, it starts no
// goroutine, and it must not read the environment or open anything itself.
package zoocfg
