# Sourced after server.sh: fetches ZooKeeper's jars once into $cache and sets $classpath.
# jars GROUP:ARTIFACT:VERSION... adds what a server needs besides and ZooKeeper leaves to its users.

jars() {
	version=${ZOOKEEPER_VERSION:-3.9.5}
	dir=$cache/zookeeper-$version-$#
	if [ ! -f "$dir/complete" ]; then
		mkdir -p "$dir"
		{
			echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
			echo '<groupId>cairn.conformance</groupId><artifactId>zookeeper</artifactId><version>1</version><dependencies>'
			for a in "org.apache.zookeeper:zookeeper:$version" "$@"; do
				echo "$a" | awk -F: '{printf "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n", $1, $2, $3}'
			done
			echo '</dependencies></project>'
		} >"$dir/pom.xml"
		mvn -q -B -f "$dir/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir" >"$dir/mvn.log" 2>&1 ||
			{ cat "$dir/mvn.log" >&2; exit 1; }
		touch "$dir/complete"
	fi
	classpath=$(ls "$dir"/*.jar | paste -sd: -)
}
