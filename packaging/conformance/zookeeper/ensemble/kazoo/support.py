"""What the checks share: orders to the servers, clients that are sent to a server of choice, and the list of checks."""

import logging
import os
import socket
import threading
import time
import traceback

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, ReconfigInProcessError
from kazoo.protocol.states import KazooState

logging.getLogger("kazoo").setLevel(logging.CRITICAL)

SESSION = 6.0  # seconds: far more than an election takes
WAIT = 20.0
NOWHERE = "127.0.0.1:1"  # refuses every connection
checks = []
opened = []


def check(f):
    checks.append(f)
    return f


def run(only):
    failed = 0
    for f in checks:
        if only and f.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            order("heal")
            f("/kazoo-" + f.__name__.replace("_", "-"))
            print(f"ok   kazoo {f.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL kazoo {f.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
            print("     " + traceback.format_exc().strip().replace("\n", "\n     "), flush=True)
        for client in opened:
            leave(client)
        del opened[:]
    return failed


class Orders:
    """The port of servers.py that takes orders."""

    def __init__(self):
        host, port = os.environ["ENSEMBLE"].split(":")
        self.lock = threading.Lock()
        self.file = socket.create_connection((host, int(port))).makefile("rw")

    def __call__(self, *words):
        with self.lock:
            self.file.write(" ".join(map(str, words)) + "\n")
            self.file.flush()
            status, _, answer = self.file.readline().strip().partition(" ")
        assert status == "ok", f"{words}: {answer}"
        return answer


order = Orders()
ADDRESS = {int(n): address for n, address in (word.split("=") for word in order("clients").split())}
VOTERS, OBSERVER = (1, 2, 3), 4


def leader():
    return int(order("leader"))


def followers():
    return [n for n in VOTERS if n != leader()]


def hosts(*numbers):
    return ",".join(ADDRESS[n] for n in numbers) if numbers else NOWHERE


def client(*numbers, **kw):
    c = KazooClient(
        hosts=hosts(*numbers), timeout=kw.pop("timeout", SESSION), randomize_hosts=False,
        connection_retry=dict(max_tries=-1, delay=0.02, backoff=1, max_jitter=0),
        command_retry=dict(max_tries=-1, delay=0.05, backoff=1, max_jitter=0), **kw,
    )
    opened.append(c)
    c.states = []
    c.add_listener(c.states.append)
    c.start(timeout=WAIT)
    return c


def leave(c):
    """Ends a client whether or not it can reach a server."""
    try:
        c.stop()
        c.close()
    except Exception:
        pass


def until(what, seconds=WAIT):
    deadline = time.monotonic() + seconds
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def disconnected(c):
    until(lambda: c.states[-1] == KazooState.SUSPENDED)


def connected(c):
    until(lambda: c.states[-1] == KazooState.CONNECTED and c.connected)


def raises(kind, f, *args, **kw):
    """What f raises; a lost connection, or a change that is under way, says nothing, and is asked again."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        try:
            got = f(*args, **kw)
        except (ConnectionLoss, ReconfigInProcessError):
            time.sleep(0.05)
            continue
        except kind as e:
            return e
        raise AssertionError(f"{f.__name__} gave {got!r} and did not raise {kind}")
    raise AssertionError("the connection is lost again and again")
