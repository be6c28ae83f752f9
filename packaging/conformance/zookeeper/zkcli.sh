#!/bin/sh
# Runs a session of each command of ZooKeeper's own zkCli against cairn and compares it with what a real ZooKeeper answers.
. "$(dirname "$0")/server.sh"
cairn_binary "$@"
cache_dir
. "$here/zkcli/jars.sh"
jars commons-cli:commons-cli:1.5.0
start_server "$bin" start --zoo-cfg
python3 "$here/zkcli/session.py" "$classpath" "127.0.0.1:$port" "$here/zkcli/commands.txt" "$here/zkcli/expected.txt"
