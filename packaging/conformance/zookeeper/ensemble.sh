#!/bin/sh
# Runs the checks of ensemble/ against three voters and an observer, with kazoo, with go-zookeeper and with ZooKeeper's own
# client, each against an ensemble of its own. Without a binary (ensemble.sh reference) the servers are ZooKeeper's, of which
# 3.9.5 fails read-only-and-back: it opens sessions without a majority only where localSessionsEnabled=true (ZOOKEEPER-1147).
# ENSEMBLE_CLIENTS names some of "kazoo gozookeeper java"; ENSEMBLE_CHECKS names some of the checks.
. "$(dirname "$0")/server.sh"
[ "${1:-}" = reference ] || cairn_binary "$@"
cache_dir
. "$here/zkcli/jars.sh"
clients=${ENSEMBLE_CLIENTS:-kazoo gozookeeper java}
root=$(cd "$here/../../.." && pwd)

prepare_kazoo() {
	venv=$cache/kazoo
	if ! "$venv/bin/python" -c 'import kazoo' 2>/dev/null; then
		python3 -m venv "$venv"
		"$venv/bin/pip" install --quiet --disable-pip-version-check "kazoo${KAZOO_VERSION:+==$KAZOO_VERSION}"
	fi
}

prepare_gozookeeper() {
	(cd "$root" && CGO_ENABLED=0 go build -trimpath -o "$work/gozookeeper" ./packaging/conformance/zookeeper/ensemble/gozookeeper)
}

prepare_java() {
	jars commons-cli:commons-cli:1.5.0
	java_classpath=$work/classes:$classpath
	mkdir -p "$work/classes"
	javac -nowarn -d "$work/classes" -cp "$classpath" "$here"/ensemble/java/*.java
}

# command CLIENT: sets "program", which is what it is started as.
command_of() {
	case $1 in
	kazoo) program="$venv/bin/python $here/ensemble/kazoo/main.py" ;;
	gozookeeper) program=$work/gozookeeper ;;
	java) program="java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp $java_classpath Ensemble" ;;
	esac
}

if [ "${1:-}" = reference ]; then
	jars commons-cli:commons-cli:1.5.0 io.dropwizard.metrics:metrics-core:4.1.12.1 org.xerial.snappy:snappy-java:1.1.10.5
	printf 'exec java -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 $SERVER_JVMFLAGS -cp %s org.apache.zookeeper.server.quorum.QuorumPeerMain "$1"\n' "$classpath" >"$work/server"
	server="sh $work/server"
else
	server="$bin start --zoo-cfg"
fi
for client in $clients; do
	"prepare_$client"
done

failed=0
: >"$work/results"
for client in $clients; do
	mkdir "$work/servers-$client"
	command_of "$client"
	status=0
	# The server's place: stop_server ends it, and with it what it started, when this script is told to end.
	# shellcheck disable=SC2086 # program and checks are words
	python3 "$here/ensemble/servers.py" "$work/servers-$client" "$server" $program ${ENSEMBLE_CHECKS:-} >"$work/$client.out" 2>"$work/$client.err" &
	server_pid=$!
	wait "$server_pid" || status=$?
	server_pid=
	cat "$work/$client.out"
	if [ "$status" -ne 0 ]; then
		failed=1
		grep -v SLF4J "$work/$client.err" | tail -n 40 >&2 || true
	fi
	cat "$work/$client.out" >>"$work/results"
done
passed_count=$(grep -c '^ok ' "$work/results" || true)
failed_count=$(grep -c '^FAIL ' "$work/results" || true)
echo "$passed_count passed, $failed_count failed"
[ "$failed" -eq 0 ] && [ "$failed_count" -eq 0 ] && [ "$passed_count" -gt 0 ]
