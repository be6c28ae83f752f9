"""Finds ports of loopback for servers that are stopped and started again.

usage: ports.py FILE   prints a port, another one at each call with the same FILE, in which it keeps what it gave
"""

import os
import random
import socket
import sys

# Below those that the kernel gives to clients (net.ipv4.ip_local_port_range), so that no connection takes the port of a
# server while it is down.
FIRST, LAST = 12000, 32000


def free_ports(count, after=None):
    """As many ports that nobody listens on now; above after, if it is given, else from a random one on."""
    start = random.randrange(FIRST, LAST) if after is None else after + 1
    ports = []
    for i in range(LAST - FIRST):
        port = FIRST + (start - FIRST + i) % (LAST - FIRST)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free ports")


if __name__ == "__main__":
    name = sys.argv[1]
    last = None
    if os.path.exists(name):
        with open(name) as f:
            last = int(f.read())
    (given,) = free_ports(1, last)
    with open(name, "w") as f:
        f.write(str(given))
    print(given)
