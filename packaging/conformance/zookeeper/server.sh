# Sourced by the scripts of this directory: starts and stops one server on a free loopback port.
# After start_server, $port is its port and $work the temporary directory, which is removed at exit.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server_pid=

finish() {
	status=$?
	trap - EXIT
	stop_server
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

stop_server() {
	[ -n "$server_pid" ] || return 0
	kill "$server_pid" 2>/dev/null || true
	wait "$server_pid" 2>/dev/null || true
	server_pid=
}

free_port() {
	python3 "$here/../ports.py" "$work/port"
}

# answers HOST_PORT: whether a server there says that it serves.
answers() {
	python3 - "$1" <<'PY' 2>/dev/null
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)
s.settimeout(2)
s.sendall(b"srvr")
s.shutdown(socket.SHUT_WR)
sys.exit(0 if b"Mode: " in s.makefile("rb").read() else 1)
PY
}

write_config() {
	mkdir -p "$work/data"
	cat >"$work/zoo.cfg" <<CFG
tickTime=500
dataDir=$work/data
clientPort=$port
clientPortAddress=127.0.0.1
admin.enableServer=false
4lw.commands.whitelist=*
CFG
}

# start_server COMMAND...: the command gets the configuration's name as its last argument.
start_server() {
	port=$(free_port)
	write_config
	SERVER_JVMFLAGS="-Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU= -Dzookeeper.extendedTypesEnabled=true" \
		"$@" "$work/zoo.cfg" >"$work/server.log" 2>&1 &
	server_pid=$!
	tries=0
	until answers "$port"; do
		tries=$((tries + 1))
		if [ "$tries" -gt 100 ] || ! kill -0 "$server_pid" 2>/dev/null; then
			echo "the server did not start:" >&2
			tail -n 40 "$work/server.log" >&2
			exit 1
		fi
		sleep 0.1
	done
}

cairn_binary() {
	[ $# -ge 1 ] && [ -x "$1" ] || { echo "usage: $(basename "$0") CAIRN_BINARY" >&2; exit 2; }
	bin=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
}

cache_dir() {
	cache=${CAIRN_CACHE:-$work/cache}
	unset CAIRN_CACHE # cairn takes every CAIRN_ variable for a setting
	mkdir -p "$cache"
	cache=$(cd "$cache" && pwd)
}
