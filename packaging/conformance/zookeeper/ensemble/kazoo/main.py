"""Checks of an ensemble with kazoo. ENSEMBLE is the address of servers.py's port for orders.

usage: main.py [CHECK...]
"""

import sys

import support
import failover, sessions, pipeline, epoch, reconfig, readonly  # noqa: E401, F401: each adds its checks


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hold"]:
        sessions.hold(*sys.argv[2:])
    sys.exit(1 if support.run(sys.argv[1:]) else 0)
