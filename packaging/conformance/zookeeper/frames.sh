#!/bin/sh
# Sends requests that no client library sends, and compares what becomes of them with what a real ZooKeeper did.
. "$(dirname "$0")/server.sh"
cairn_binary "$@"
start_server "$bin" start --zoo-cfg
python3 "$here/frames/frames.py" "127.0.0.1:$port" "$here/frames/expected.txt" "$here/frames/deviations.txt"
