#!/usr/bin/env bash
# Moves trees between real ZooKeepers and cairn, and from cairn to cairn, and compares all that a client can see of them.
# ZOOKEEPER_VERSIONS names the releases whose data are moved; the last one is started from what cairn exports.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
cairn=$(realpath "${1:?usage: import.sh CAIRN_BINARY}")
. ../lib.sh
versions=${ZOOKEEPER_VERSIONS:-3.8.4 3.9.5}
need java openjdk-17-jre-headless
need mvn maven
mkdir -p "$cache"
(cd "$root" && go build -o "$work/carry" ./packaging/conformance/zookeeper/carry)

# zookeeper VERSION DIR [SNAPCOUNT] starts a real ZooKeeper on DIR/data. It sets port and server_id.
zookeeper() {
	ZOOKEEPER_VERSION=$1
	. "$here/zkcli/jars.sh"
	jars commons-cli:commons-cli:1.5.0 io.dropwizard.metrics:metrics-core:4.1.12.1 org.xerial.snappy:snappy-java:1.1.10.5
	port=$(free_port)
	mkdir -p "$2"
	printf '%s\n' tickTime=500 "dataDir=$2/data" "clientPort=$port" clientPortAddress=127.0.0.1 admin.enableServer=false >"$2/zoo.cfg"
	java -Xmx128m -Dzookeeper.extendedTypesEnabled=true -Dzookeeper.preAllocSize=64 -Dzookeeper.snapCount="${3:-1000}" \
		-cp "$classpath" org.apache.zookeeper.server.quorum.QuorumPeerMain "$2/zoo.cfg" >>"$2/log" 2>&1 &
	server_id=$!
	started+=("$server_id")
}

# killed ID kills a process that this suite has started, as a power cut would.
killed() {
	kill -9 "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

# print_tree HOST:PORT FILE prints a tree. What the ephemerals that were left out had counted for is taken from the quota's
# stats; counts_are_true looks at those.
print_tree() {
	"$work/carry" print "$1" >"$2.whole"
	grep -v '/zookeeper_stats ' "$2.whole" >"$2"
	[ "$(wc -l <"$2")" -gt 20 ] || { echo "only $(wc -l <"$2") lines"; return 1; }
}

# counts_are_true FILE: the stats of the quota of /app count the nodes that are there.
counts_are_true() {
	local there counted
	there=$(grep -cE '^/app[/ ]' "$1.whole")
	counted=$(sed -n 's|^/zookeeper/quota/app/zookeeper_stats "count=\([0-9]*\),.*|\1|p' "$1.whole")
	[ "$there" = "$counted" ] || { echo "$there nodes, counted $counted"; return 1; }
}

# written VERSION DIR writes a tree to a real ZooKeeper, which dies by kill -9 twice, amid its snapshots.
written() {
	zookeeper "$1" "$2" && "$work/carry" write "127.0.0.1:$port" && killed "$server_id"
	zookeeper "$1" "$2" 60 && "$work/carry" change "127.0.0.1:$port" && print_tree "127.0.0.1:$port" "$2/tree" && killed "$server_id"
}

# box DATA [FLAG…] starts a cairn without Kafka. It sets zookeeper, http and cairn_id, as start_cairn does.
box() { start_cairn "$1" --roles zookeeper "${@:2}"; }

stopped() { kill "$cairn_id" && wait "$cairn_id"; }

# same FILE HOST:PORT: the server has the tree of the file.
same() {
	print_tree "$2" "$work/now" && diff "$1" "$work/now" && counts_are_true "$work/now"
}

imported_offline() { # VERSION
	local dir=$work/zk-$1
	"$cairn" restore --from-zookeeper "$dir/data" --data "$work/offline-$1" | tee "$work/restored" &&
		grep -q '2 ephemerals were left out' "$work/restored" &&
		box "$work/offline-$1" && same "$dir/tree" "$zookeeper" &&
		# It goes on counting where the other one stopped.
		[ "$("$cairn" zk --servers "$zookeeper" create /app/seq- -s)" = "$(next_name "$dir/tree")" ] &&
		stopped
}

next_name() { sed -n 's|^/app .* created=\([0-9]*\) .*|\1|p' "$1" | xargs printf '/app/seq-%010d\n'; }

# churned VERSION: a real ZooKeeper writes snapshots while many clients change the same nodes, dies, and starts once more.
churned() {
	local at=$work/churned churn
	zookeeper "$1" "$at" 150 && "$work/carry" fill "127.0.0.1:$port" 8000 || return 1
	"$work/carry" churn "127.0.0.1:$port" 3 &
	churn=$!
	started+=("$churn")
	wait "$churn" || return 1
	killed "$server_id"
	zookeeper "$1" "$at" 100000 && "$work/carry" quiet "127.0.0.1:$port" && "$work/carry" print "127.0.0.1:$port" >"$at/tree" && killed "$server_id"
}

# imported_fuzzy: an old snapshot, which holds more than its name says, and all logs lead to the tree that the real one had.
imported_fuzzy() {
	local all n name
	mapfile -t all < <(cd "$work/churned/data/version-2" && ls snapshot.* | sort -t. -k2)
	[ "${#all[@]}" -ge 8 ] || { echo "only ${#all[@]} snapshots"; return 1; }
	for n in 3 5 $((${#all[@]} / 2)); do
		name=${all[$n]}
		rm -rf "$work/fuzzy"
		mkdir -p "$work/fuzzy/version-2"
		cp "$work/churned/data/version-2"/{log.*,"$name"} "$work/fuzzy/version-2"
		"$cairn" restore --from-zookeeper "$work/fuzzy" --data "$work/fuzzy/cairn" && box "$work/fuzzy/cairn" &&
			"$work/carry" print "$zookeeper" >"$work/fuzzy/tree" && diff "$work/churned/tree" "$work/fuzzy/tree" && stopped || return 1
	done
}

imported_online() { # VERSION
	box "$work/online-$1" && "$cairn" zk --servers "$zookeeper" create /gone &&
		"$cairn" restore --from-zookeeper "$work/zk-$1/data" --http "$http" && same "$work/zk-$1/tree" "$zookeeper" &&
		"$cairn" backup --to "$work/backup-$1" --http "$http" &&
		"$cairn" backup --to-zookeeper "$work/export-$1/data" --http "$http" && stopped
}

exported() { # VERSION of the data, VERSION that starts
	zookeeper "$2" "$work/export-$1" && same "$work/zk-$1/tree" "127.0.0.1:$port" && killed "$server_id" &&
		java -cp "$classpath" org.apache.zookeeper.server.SnapshotFormatter "$(ls "$work/export-$1/data/version-2"/snapshot.* | head -1)" >"$work/formatted" &&
		grep -A9 '^/ttl$' "$work/formatted" | grep -q 'ephemeralOwner = 0xff00000005265c00' && # a day
		grep -A9 '^/container$' "$work/formatted" | grep -q 'ephemeralOwner = 0x8000000000000000'
}

restored_offline() { # VERSION
	"$cairn" restore "$work/backup-$1" --data "$work/again-$1" && box "$work/again-$1" && same "$work/zk-$1/tree" "$zookeeper" && stopped
}

# status COMMAND [CURL ARGUMENT…] prints the status of one of the AdminServer's commands.
status() { curl -sS -o "$work/answer" -w '%{http_code}' "http://$http/commands/$1" "${@:2}"; }

# The AdminServer's own commands, as its users call them with curl.
by_curl() { # VERSION
	local who='Authorization: digest any:body'
	box "$work/curl" && "$cairn" restore "$work/backup-$1" --http "$http" || return 1
	[ "$(status snapshot)" = 401 ] && [ "$(status 'snapshot?streaming=true' -H "$who" -D "$work/headers")" = 200 ] || return 1
	mv "$work/answer" "$work/snapshot"
	grep -i '^last_zxid: 0x' "$work/headers" && "$cairn" zk --servers "$zookeeper" create /gone || return 1
	[ "$(status restore -H "$who" --data-binary "@$work/snapshot")" = 200 ] && grep '"last_zxid": [1-9]' "$work/answer" &&
		same "$work/zk-$1/tree" "$zookeeper" || return 1
	head -c 30000 "$work/snapshot" >"$work/short"
	[ "$(status restore -H "$who" --data-binary "@$work/short")" = 400 ] && cat "$work/answer" &&
		same "$work/zk-$1/tree" "$zookeeper" && stopped
}

# member N starts one of three servers.
member() {
	"$cairn" start --zoo-cfg "$work/member$1/zoo.cfg" >>"$work/member$1/log" 2>&1 &
	member_id[$1]=$!
	started+=("$!")
}

declare -A member_id member_http member_port
three_servers() {
	local n m lines=()
	for n in 1 2 3; do
		lines+=("server.$n=127.0.0.1:$(free_port):$(free_port)")
		member_http[$n]=127.0.0.1:$(free_port)
		member_port[$n]=$(free_port)
	done
	for n in 1 2 3; do
		mkdir -p "$work/member$n/data"
		echo "$n" >"$work/member$n/data/myid"
		printf '%s\n' tickTime=500 initLimit=10 syncLimit=5 "dataDir=$work/member$n/data" "clientPort=${member_port[$n]}" \
			clientPortAddress=127.0.0.1 extendedTypesEnabled=true "admin.serverPort=${member_http[$n]#*:}" admin.serverAddress=127.0.0.1 "${lines[@]}" >"$work/member$n/zoo.cfg"
		member "$n"
	done
	for n in 1 2 3; do until_true 30 curl -fsS "http://${member_http[$n]}/readyz"; done
}

role() { curl -fsS "http://${member_http[$1]}/commands/server_stats" | sed -n 's|.*"server_state": "\(.*\)".*|\1|p'; }

# A restore into three servers that are written to, while a follower dies amid it and comes back.
restored_under_load() {
	local n leader followers=() restoring load
	three_servers || return 1
	for n in 1 2 3; do if [ "$(role "$n")" = leader ]; then leader=$n; else followers+=("$n"); fi; done
	[ "${#followers[@]}" = 2 ] || { echo "followers: ${followers[*]}"; return 1; }
	"$work/carry" write "127.0.0.1:${member_port[1]}" && "$work/carry" fill "127.0.0.1:${member_port[1]}" 20000 &&
		until_true 40 expired "127.0.0.1:${member_port[2]}" && print_tree "127.0.0.1:${member_port[2]}" "$work/filled" &&
		"$cairn" backup --to "$work/filled.cairn" --http "${member_http[${followers[0]}]}" &&
		"$work/carry" change "127.0.0.1:${member_port[3]}" || return 1
	"$work/carry" load "127.0.0.1:${member_port[$leader]},127.0.0.1:${member_port[${followers[0]}]}" 8 >"$work/load" 2>&1 &
	load=$!
	started+=("$load")
	sleep 1 # the load is under way
	"$cairn" restore "$work/filled.cairn" --http "${member_http[${followers[0]}]}" >"$work/restored" 2>&1 &
	restoring=$!
	started+=("$restoring")
	until_true 20 staging "${followers[0]}" || { echo "nothing was staged"; cat "$work/restored"; return 1; }
	killed "${member_id[${followers[1]}]}"
	kill -0 "$restoring" 2>/dev/null || { echo "the restore was over before the kill"; return 1; }
	wait "$restoring" || { cat "$work/restored"; return 1; }
	cat "$work/restored"
	member "${followers[1]}"
	wait "$load" || { cat "$work/load"; return 1; }
	cat "$work/load"
	until_true 30 curl -fsS "http://${member_http[${followers[1]}]}/readyz" || return 1
	for n in 1 2 3; do
		has_filled "$n" || { echo "server $n"; return 1; }
	done
}

# expired HOST:PORT: the session that wrote is over, and its ephemerals have moved the last pzxid.
expired() {
	local there
	there=$("$cairn" zk --servers "$1" ls /app) && grep -q deep <<<"$there" && ! grep -q living <<<"$there"
}

# staging N: a restore is under way at a server, and what is to be restored was checked.
staging() { [ -e "$work/member$1/data/cairn/spool/restore.backup" ] && [ ! -e "$work/member$1/data/cairn/spool/restore" ]; }

# has_filled N: a server has what was backed up, and besides only what the load wrote behind the restore.
has_filled() {
	"$cairn" zk --servers "127.0.0.1:${member_port[$1]}" get /filled >/dev/null && # which waits for its turn
		print_tree "127.0.0.1:${member_port[$1]}" "$work/server$1" || return 1
	grep -v '^/load-' "$work/server$1" | sed '1s/ children=[0-9]*$//' >"$work/server$1.kept"
	sed '1s/ children=[0-9]*$//' "$work/filled" | diff - "$work/server$1.kept"
}

for release in $versions; do
	check "real $release writes a tree" written "$release" "$work/zk-$release"
	check "$release into a box that does not run" imported_offline "$release"
	check "$release into a box that runs" imported_online "$release"
	check "$release, exported, starts a real ${versions##* }" exported "$release" "${versions##* }"
	check "$release, backed up, comes back" restored_offline "$release"
done
check "real ${versions##* } under churn" churned "${versions##* }"
check "its fuzzy snapshots lead to its tree" imported_fuzzy
check "snapshot and restore by curl" by_curl "${versions##* }"
check "restore into three servers under load, one killed" restored_under_load
finish
