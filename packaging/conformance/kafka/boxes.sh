# Sourced after lib.sh and reference.sh: boxes that are one cluster, and Kafka's Java tools that ask all of them. boxes N
# picks addresses; a box's number is its broker's id.
t=org.apache.kafka.tools

join=() kafka_at=() http_at=() box_id=()

# boxes N picks the addresses of so many boxes and starts none.
boxes() {
	local box
	for ((box = 1; box <= $1; box++)); do
		join[box]=127.0.0.1:$(free_port)
		kafka_at[box]=127.0.0.1:$(free_port)
		http_at[box]=127.0.0.1:$(free_port)
	done
}

# start_box N [LAST] starts a box that knows the boxes from the first to LAST, of all if it is not given; it does not wait.
start_box() {
	local box others=()
	for ((box = 1; box <= ${2:-${#join[@]}}; box++)); do others+=(--join "${join[box]}"); done
	"$cairn" start --data "$work/box$1" "${others[@]}" --link-listen "${join[$1]}" --kafka-listen "${kafka_at[$1]}" \
		--zookeeper-listen '' --http-listen "${http_at[$1]}" >>"$work/box$1.log" 2>&1 &
	box_id[$1]=$!
	started+=("${box_id[$1]}")
}

# stop_box SIGNAL N ends one and waits for its end.
stop_box() {
	kill "-$1" "${box_id[$2]}"
	wait "${box_id[$2]}" 2>/dev/null || true
}

# ready N… waits until boxes are; where one is not it says why and ends the suite.
ready() {
	local box
	for box in "$@"; do
		until_true 30 curl -fsS "http://${http_at[box]}/readyz" || { tail -20 "$work/box$box.log" >&2; exit 1; }
	done
}

# at is where the tools ask: all of the boxes.
at() { local IFS=,; echo "${kafka_at[*]}"; }

# metric N NAME is what a box says of itself.
metric() { curl -fsS "http://${http_at[$1]}/metrics" | awk -v name="$2" '$1 == name {print $2}'; }

# whole N… is true while these boxes are all that there are, and every partition has all its replicas in sync.
whole() {
	local box
	for box in "$@"; do
		[ "$(metric "$box" cairn_brokers)" = $# ] && [ "$(metric "$box" cairn_under_replicated_partitions)" = 0 ] &&
			[ "$(metric "$box" cairn_offline_partitions)" = 0 ] && [ "$(metric "$box" cairn_reassigning_partitions)" = 0 ] || return 1
	done
}

topics() { kafka_tool $t.TopicCommand --bootstrap-server "$(at)" "$@"; }
reassign() { kafka_tool $t.reassign.ReassignPartitionsCommand --bootstrap-server "$(at)" "$@"; }
groups() { kafka_tool $t.consumer.group.ConsumerGroupCommand --bootstrap-server "$(at)" "$@"; }
elections() { kafka_tool $t.LeaderElectionCommand --bootstrap-server "$(at)" "$@"; }
config() { kafka_tool kafka.admin.ConfigCommand --bootstrap-server "$(at)" "$@"; }

# produce TOPIC N writes so many numbered records, all acknowledged by all in sync.
produce() { kafka_tool $t.VerifiableProducer --bootstrap-server "$(at)" --topic "$1" --max-messages "$2" --acks -1 >"$work/produced"; grep -q "\"sent\":$2,\"acked\":$2" "$work/produced"; }

# fill TOPIC N BYTES writes so many records of a size.
fill() { kafka_tool $t.ProducerPerformance --topic "$1" --num-records "$2" --record-size "$3" --throughput -1 --bootstrap-server "$(at)" --command-property acks=all; }

# holds TOPIC N is true when the topic's partitions have so many records that a consumer reads.
holds() {
	kafka_tool $t.consumer.ConsoleConsumer --bootstrap-server "$(at)" --topic "$1" --from-beginning --max-messages "$2" --timeout-ms 20000 2>/dev/null | wc -l >"$work/count"
	[ "$(cat "$work/count")" -eq "$2" ] || { cat "$work/count"; return 1; }
	kafka_tool $t.GetOffsetShell --bootstrap-server "$(at)" --topic "$1" | awk -F: -v want="$2" '{n += $3} END {print n, "records"; exit n != want}'
}

# lines N COMMAND… is true when the command prints so many lines that name a partition.
lines() {
	local n=$1 out
	shift
	out=$("$@") || return 1
	[ "$(grep -c 'Partition: ' <<<"$out")" -eq "$n" ] || { echo "$out"; return 1; }
}

# prints TEXT COMMAND… is true when the command's output has a line like that.
prints() {
	local text=$1 out
	shift
	out=$("$@" 2>&1) || { echo "$out"; return 1; }
	grep -qE -- "$text" <<<"$out" || { echo "$out"; return 1; }
}

# same_replicas TOPICS asks the tool that compares replicas. It prints how many partitions it verifies, and then the greatest
# difference, every so often, until it is ended.
same_replicas() {
	local id end=$((SECONDS + 40)) same=1
	java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.level=ERROR -Dlog4j2.StatusLogger.level=OFF -cp "$kafka_classpath" \
		$t.ReplicaVerificationTool --broker-list "$(at)" --topics-include "$1" --report-interval-ms 2000 >"$work/verification" 2>&1 &
	id=$!
	started+=("$id")
	until grep -q 'max lag is 0 ' "$work/verification"; do
		[ "$SECONDS" -lt "$end" ] && kill -0 "$id" 2>/dev/null || { same=0; break; }
		sleep 0.1
	done
	kill "$id" 2>/dev/null || true
	wait "$id" 2>/dev/null || true
	cat "$work/verification"
	[ "$same" = 1 ] && ! grep -qiE "mismatch|doesn't match|Exception" "$work/verification"
}
