#!/bin/sh
# Asks three voters and an observer for their four-letter words and AdminServer commands, and compares what is in the answers, by
# role, with what a real ZooKeeper ensemble's had in them (words/expected.txt, which `words.sh reference` writes).
. "$(dirname "$0")/server.sh"
words=$here/words
if [ "${1:-}" = reference ]; then
	cache_dir
	. "$here/zkcli/jars.sh"
	jars commons-cli:commons-cli:1.5.0 io.dropwizard.metrics:metrics-core:4.1.12.1 org.xerial.snappy:snappy-java:1.1.10.5 \
		org.eclipse.jetty:jetty-servlet:9.4.58.v20250814 com.fasterxml.jackson.core:jackson-databind:2.15.2
	printf 'exec java -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 $SERVER_JVMFLAGS -cp %s org.apache.zookeeper.server.quorum.QuorumPeerMain "$1"\n' "$classpath" >"$work/server"
	command="sh $work/server" wanted=--write
else
	cairn_binary "$@"
	unset CAIRN_CACHE # cairn takes every CAIRN_ variable for a setting
	command="$bin start --zoo-cfg" wanted=$words/deviations.txt
fi
# The server's place: stop_server ends it, and with it what it started, when this script is told to end.
mkdir "$work/servers"
python3 "$words/words.py" "$work/servers" "$command" "$words/expected.txt" "$wanted" &
server_pid=$!
status=0
wait "$server_pid" || status=$?
server_pid=
exit "$status"
