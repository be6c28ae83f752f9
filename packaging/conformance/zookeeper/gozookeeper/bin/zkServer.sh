#!/bin/sh
# What go-zookeeper's harness takes for ZooKeeper's zkServer.sh. SERVER_JVMFLAGS comes from the harness. exec, because
# the harness kills the process that it started and no other.
case $1 in
start-foreground) exec "$CAIRN" start --zoo-cfg "$2" ;;
*) echo "zkServer.sh: only start-foreground CONFIG" >&2; exit 2 ;;
esac
