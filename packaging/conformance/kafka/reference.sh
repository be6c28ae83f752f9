# Sourced: a real Kafka broker of one node from the jars, to compare with. start_reference sets reference to its address.

kafka_version=4.3.1 # the newest release of which every jar is published

kafka_jars() {
	maven_jars "kafka-$kafka_version" "org.apache.kafka:kafka_2.13:$kafka_version" "org.apache.kafka:kafka-tools:$kafka_version"
	kafka_classpath="$cache/kafka-$kafka_version/libs/*"
}

# kafka_tool CLASS ARG… runs a class of Kafka's jars with little memory and no logs.
kafka_tool() {
	java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.level=ERROR -Dlog4j2.StatusLogger.level=OFF -cp "$kafka_classpath" "$@"
}

start_reference() {
	local controller dir=$work/reference
	reference=127.0.0.1:$(free_port)
	controller=127.0.0.1:$(free_port)
	mkdir -p "$dir"
	cat >"$dir/server.properties" <<-P
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@$controller
		listeners=PLAINTEXT://$reference,CONTROLLER://$controller
		advertised.listeners=PLAINTEXT://$reference
		controller.listener.names=CONTROLLER
		inter.broker.listener.name=PLAINTEXT
		log.dirs=$dir/data
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=16
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		group.initial.rebalance.delay.ms=0
	P
	kafka_tool kafka.tools.StorageTool format -t "$(kafka_tool kafka.tools.StorageTool random-uuid)" -c "$dir/server.properties" >"$dir/format.log" 2>&1
	java -Xmx512m -XX:+UseSerialGC -Dlog4j2.level=ERROR -Dlog4j2.StatusLogger.level=OFF -cp "$kafka_classpath" kafka.Kafka "$dir/server.properties" >"$dir/broker.log" 2>&1 &
	started+=("$!")
	until_true 90 kafka_tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$reference" --list
}
