#!/bin/sh
# Runs readonly/session.py: kazoo and ZooKeeper's Java client against three servers, two of which are killed.
. "$(dirname "$0")/server.sh"
cairn_binary "$@"
cache_dir
. "$here/zkcli/jars.sh"
jars commons-cli:commons-cli:1.5.0

venv=$cache/kazoo
if ! "$venv/bin/python" -c 'import kazoo' 2>/dev/null; then
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check "kazoo${KAZOO_VERSION:+==$KAZOO_VERSION}"
fi
"$venv/bin/python" "$here/readonly/session.py" "$bin" "$classpath" "$here/readonly/Reader.java" "$work"
