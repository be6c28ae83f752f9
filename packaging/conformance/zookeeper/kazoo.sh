#!/bin/sh
# Runs kazoo/session.py, a session of each operation and of the recipes, against cairn.
. "$(dirname "$0")/server.sh"
cairn_binary "$@"
cache_dir

venv=$cache/kazoo
if ! "$venv/bin/python" -c 'import kazoo' 2>/dev/null; then
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check "kazoo${KAZOO_VERSION:+==$KAZOO_VERSION}"
fi
start_server "$bin" start --zoo-cfg
"$venv/bin/python" "$here/kazoo/session.py" "127.0.0.1:$port"
