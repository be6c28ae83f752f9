#!/bin/sh
# Runs the zkCli session and the odd frames against a real ZooKeeper, each against a fresh one, and writes
# zkcli/expected.txt and frames/expected.txt.
. "$(dirname "$0")/server.sh"
cache_dir
. "$here/zkcli/jars.sh"
jars commons-cli:commons-cli:1.5.0 io.dropwizard.metrics:metrics-core:4.1.12.1 org.xerial.snappy:snappy-java:1.1.10.5
serve() {
	# shellcheck disable=SC2086 # the flags are words, as zkServer.sh has them
	exec java $SERVER_JVMFLAGS -cp "$classpath" org.apache.zookeeper.server.quorum.QuorumPeerMain "$1"
}
start_server serve
python3 "$here/zkcli/session.py" "$classpath" "127.0.0.1:$port" "$here/zkcli/commands.txt" "$here/zkcli/expected.txt" --write
stop_server
rm -rf "$work/data"
start_server serve
python3 "$here/frames/frames.py" "127.0.0.1:$port" >"$here/frames/expected.txt"
