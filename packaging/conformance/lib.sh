# Shared by the suites of this folder; sourced by bash scripts with `set -euo pipefail`. A suite calls `check NAME
# COMMAND…` for each case and ends with `finish`, which prints "N passed, N failed" and fails if any case did.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${CAIRN_CACHE:-$HOME/.cache/cairn-conformance}
work=$(mktemp -d "${TMPDIR:-/tmp}/cairn-conformance.XXXXXX")
passed=0
failed=0
started=() # ids of the processes that this suite has started, the only ones that it ends

cleanup() {
	local id
	for id in "${started[@]:-}"; do
		[ -z "$id" ] || { kill "$id" && wait "$id"; } 2>/dev/null || true # it ends by the signal, which is no failure
	done
	if [ "$failed" -eq 0 ]; then rm -rf "$work"; else echo "left for a look: $work" >&2; fi
	return 0
}
trap cleanup EXIT

# free_port prints a port of loopback that nobody listens on now.
free_port() {
	python3 "$root/packaging/conformance/ports.py" "$work/port"
}

# until_true SECONDS COMMAND… polls until the command succeeds.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# start_cairn DATA [FLAG…] starts a box on free ports and waits until it is ready. It sets kafka, zookeeper, http, cairn_id.
start_cairn() {
	local data=$1
	shift
	kafka=127.0.0.1:$(free_port)
	zookeeper=127.0.0.1:$(free_port)
	http=127.0.0.1:$(free_port)
	"$cairn" start --data "$data" --kafka-listen "$kafka" --zookeeper-listen "$zookeeper" --http-listen "$http" "$@" >>"$work/cairn.log" 2>&1 &
	cairn_id=$!
	started+=("$cairn_id")
	if ! until_true 30 curl -fsS "http://$http/readyz"; then
		echo "cairn is not ready after 30 s:" >&2
		tail -20 "$work/cairn.log" >&2
		return 1
	fi
}

# check NAME COMMAND… runs one case.
check() {
	local name=$1
	shift
	local log=$work/$(tr -c 'A-Za-z0-9\n' '_' <<<"$name").log
	if "$@" >"$log" 2>&1; then
		passed=$((passed + 1))
		echo "ok   $name"
	else
		failed=$((failed + 1))
		echo "FAIL $name"
		tail -30 "$log" | sed 's/^/     /'
	fi
}

finish() {
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
}

# need COMMAND PACKAGE installs a Debian package if its command is missing.
need() {
	command -v "$1" >/dev/null && return 0
	if [ "$(id -u)" -ne 0 ]; then
		echo "$1 is missing: install the Debian package $2" >&2
		return 1
	fi
	apt-get update -qq >/dev/null || true
	apt-get install -y -qq "$2" >/dev/null
}

# maven_jars NAME GROUP:ARTIFACT:VERSION… fills $cache/NAME with the artifacts and all that they need at run time.
maven_jars() {
	local dir=$cache/$1
	shift
	[ -f "$dir/.complete" ] && return 0
	need mvn maven
	rm -rf "$dir"
	mkdir -p "$dir"
	{
		echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
		echo '<groupId>local</groupId><artifactId>jars</artifactId><version>1</version><dependencies>'
		local coordinate group artifact version
		for coordinate in "$@"; do
			IFS=: read -r group artifact version <<<"$coordinate"
			echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
		done
		echo '</dependencies></project>'
	} >"$dir/pom.xml"
	mvn -B -q -f "$dir/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/libs"
	touch "$dir/.complete"
}
