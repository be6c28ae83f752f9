"""Asks a leader, a follower and an observer for every four-letter word and reading AdminServer command, and notes what is in
the answers: their keys, and the form of what they say, not the numbers.

usage: words.py DIRECTORY SERVER_COMMAND EXPECTED --write       write what a real ZooKeeper's answers have
       words.py DIRECTORY SERVER_COMMAND EXPECTED DEVIATIONS    compare; DEVIATIONS names what differs on purpose, one a
                                                                line and with the shell's *, the reason behind two spaces
"""

import fnmatch
import json
import os
import re
import signal
import socket
import struct
import sys
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "ensemble"), os.path.join(HERE, "..", "..")]
import servers  # noqa: E402
from ports import free_ports  # noqa: E402

WORDS = "conf cons dirs dump gtmk isro mntr ruok srvr stat wchc wchp wchs".split()
COMMANDS = (
    "configuration connections dirs dump get_trace_mask hash initial_configuration is_read_only last_snapshot leader"
    " observer_connection_stat_reset observers ruok server_stats stats voting_view watch_summary watches watches_by_path zabstate"
).split()


class Server(servers.Server):
    """Has an AdminServer too."""

    def write(self, all_lines):
        super().write(all_lines)
        (self.admin,) = free_ports(1)
        with open(self.config, "a") as f:
            f.write(f"admin.enableServer=true\nadmin.serverAddress=127.0.0.1\nadmin.serverPort={self.admin}\n")

    def ask(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/commands/{name}", timeout=5) as r:
            return json.load(r)


    def unmetered(self):
        """The names of mntr that Prometheus does not get under ZooKeeper's name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as r:
            metrics = {re.split("[{ ]", line)[0] for line in r.read().decode().splitlines()}
        names = keys_of_monitor(word(self.ports[2], "mntr"))
        names = {n.split(":")[0] + "_sum" if "cnt" in n else n for n in names if " p50" not in n}
        texts = {"version", "observer_master_id"}
        gauges = {f"{part}_{n.split(':')[0]}" for n in names if ":" in n for part in n.split()[1:]}
        return {n for n in names if ":" not in n and "_state\t" not in n} - texts - metrics | gauges - metrics


class Client:
    """Holds a session with an ephemeral and a watch, so that the answers have something to show."""

    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.settimeout(15)
        self.send(struct.pack(">iqiqi", 0, 0, 30000, 0, 16) + bytes(16) + b"\0")
        name = struct.pack(">i", len(path)) + path
        world = struct.pack(">iii5si6s", 1, 31, 5, b"world", 6, b"anyone")
        self.send(struct.pack(">ii", 1, 1) + name + struct.pack(">i", 0) + world + struct.pack(">i", 1))
        self.send(struct.pack(">ii", 2, 3) + name + b"\1")

    def send(self, payload):
        self.socket.sendall(struct.pack(">i", len(payload)) + payload)
        (length,) = struct.unpack(">i", self.receive(4))
        return self.receive(length)

    def receive(self, n):
        got = b""
        while len(got) < n:
            more = self.socket.recv(n - len(got))
            if not more:
                raise EOFError("the server closed the connection")
            got += more
        return got


def word(port, name):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.settimeout(5)
        s.sendall(name.encode())
        s.shutdown(socket.SHUT_WR)
        return s.makefile("rb").read().decode()


def form(text):
    """What a line looks like, without what differs from server to server and from moment to moment."""
    text = re.sub(r"expire at .*", "expire at DATE:", text)
    text = re.sub(r"/?127\.0\.0\.1(/<unresolved>)?:\d+", "ADDRESS", text)
    text = re.sub(r"0x[0-9a-f]+|(?<![a-zA-Z])-?\d+(\.\d+)?([eE]-?\d+)?(?![a-zA-Z])", "N", text)
    return text.rstrip()


def keys_of_word(name, text):
    if name == "mntr":
        return keys_of_monitor(text)
    if name in ("conf", "dirs"):
        lines = (re.sub(r"=(/|\d).*", "=", line) for line in text.splitlines())
    else:
        lines = (re.sub(r"^Zookeeper version: .*", "Zookeeper version: V", line) for line in text.splitlines())
        lines = (re.sub(r"lop=\w+|est=\d+|\[\d\]|ms$", "", line) for line in lines)
    return {form(re.sub(r"version=\w+", "version=N", line)) for line in lines if line.strip()}


def keys_of_monitor(text):
    """The names of mntr. Those of a summary are one line, and one for its percentiles."""
    keys, summaries = set(), {}
    for line in text.splitlines():
        name = re.sub(r"_\d_", "_N_", line.split("\t")[0].removeprefix("zk_"))
        part = re.match(r"(avg|min|max|cnt|sum|p\d+)_(.*)", name)
        if part:
            summaries.setdefault((part[2], part[1][0] == "p"), set()).add(part[1])
        else:
            keys.add(form(line) if name.endswith("_state") else name)
    return keys | {f"{name}: {' '.join(sorted(parts))}" for (name, _), parts in summaries.items()}


def keys_of_object(value, at=""):
    if isinstance(value, dict):
        if not value:
            return {at + " {}"}
        return set().union(*(keys_of_object(v, f"{at}.{form(k)}") for k, v in value.items()))
    if isinstance(value, list):
        return set().union({at + " []"}, *(keys_of_object(v, at + "[]") for v in value))
    if isinstance(value, bool):
        return {f"{at} {str(value).lower()}"}
    kind = "null" if value is None else "number" if isinstance(value, (int, float)) else "string"
    if at in (".zabstate", ".peer_state", ".server_state", ".server_stats.server_state"):
        kind = value
    return {f"{at} {kind}"}


def ask(all_servers, metrics):
    got = set()
    roles = {}
    for s in all_servers.all.values():
        roles.setdefault(s.mode(), s)
    clients = [Client(s.ports[2], f"/of-{role}".encode()) for role, s in roles.items()]
    everybody = all_servers.all.values()
    all_servers.until(
        "the leader counts all", lambda: {"zk_synced_followers\t2", "zk_synced_observers\t1"} <= set(word(roles["leader"].ports[2], "mntr").splitlines())
    )
    all_servers.until("every session is known to all", lambda: all(f"/of-{r}\n" in word(s.ports[2], "dump") for s in everybody for r in roles))
    for role, s in sorted(roles.items()):
        for name in WORDS:
            got |= {f"{role} {name} {key}" for key in keys_of_word(name, word(s.ports[2], name))}
        for name in COMMANDS:
            got |= {f"{role} /{name} {key}" for key in keys_of_object(s.ask(name))}
        monitor = {key for key in s.ask("monitor") if key not in ("command", "error")}
        mntr = {line.split("\t")[0].removeprefix("zk_") for line in word(s.ports[2], "mntr").splitlines()}
        if monitor != mntr:
            got.add(f"{role} /monitor differs from mntr by {sorted(monitor ^ mntr)}")
        if metrics:
            got |= {f"{role} /metrics lacks {name}" for name in s.unmetered()}
    for c in clients:
        c.socket.close()
    return got


def compare(got, expected, deviations):
    rules = [line.rstrip("\n").split("  ")[0] for line in deviations if line.strip() and not line.startswith("#")]
    used, failed = set(), 0
    for sign, lines in (("-", expected - got), ("+", got - expected)):
        for line in sorted(lines):
            of_it = [r for r in rules if fnmatch.fnmatchcase(f"{sign} {line}", r.replace("[", "[[]"))]
            used.update(of_it)
            if not of_it:
                failed += 1
                print(f"FAIL {sign} {line}")
    for rule in rules:
        if rule not in used:
            print(f"note: nothing deviates as {rule!r} says")
    print(f"{len(got & expected)} passed, {failed} failed")
    return 1 if failed else 0


def main():
    directory, command, expected, deviations = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers.Server = Server
    all_servers = servers.Servers(directory, command)
    try:
        all_servers.heal()
        got = ask(all_servers, deviations != "--write")
    finally:
        all_servers.kill_all()
    if deviations == "--write":
        with open(expected, "w") as f:
            f.write("".join(line + "\n" for line in sorted(got)))
        return 0
    with open(expected) as e, open(deviations) as d:
        return compare(got, {line.rstrip("\n") for line in e}, d.readlines())


if __name__ == "__main__":
    sys.exit(main())
