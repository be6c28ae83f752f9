"""kazoo and ZooKeeper's own Java client against three servers with readonlymode.enabled, two of which are killed.

usage: session.py CAIRN_BINARY CLASSPATH READER_JAVA WORK_DIRECTORY
"""

import os
import socket
import subprocess
import sys
import time

from kazoo.client import KazooClient
from kazoo.exceptions import NotReadOnlyCallError
from kazoo.protocol.states import KeeperState

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
from ports import free_ports

binary, classpath, reader, work = sys.argv[1:]
passed, failed = [], []
ports = free_ports(9)
clients, peers, elections = ports[:3], ports[3:6], ports[6:]
hosts = ",".join("127.0.0.1:%d" % p for p in clients)
running = {}


def start(n):
    directory = os.path.join(work, "ro%d" % n)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "myid"), "w") as f:
        f.write("%d\n" % n)
    name = os.path.join(directory, "zoo.cfg")
    with open(name, "w") as f:
        f.write("tickTime=500\ninitLimit=10\nsyncLimit=5\nadmin.enableServer=false\n4lw.commands.whitelist=*\n")
        f.write("dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n" % (directory, clients[n - 1]))
        for i in range(3):
            f.write("server.%d=127.0.0.1:%d:%d\n" % (i + 1, peers[i], elections[i]))
    log = open(os.path.join(directory, "log"), "ab")
    environment = dict(os.environ, SERVER_JVMFLAGS="-Dreadonlymode.enabled=true")
    running[n] = subprocess.Popen([binary, "start", "--zoo-cfg", name], stdout=log, stderr=log, env=environment)


def kill(n):
    p = running.pop(n)
    p.kill()
    p.wait()


def word(n, text):
    try:
        with socket.create_connection(("127.0.0.1", clients[n - 1]), 2) as s:
            s.settimeout(2)
            s.sendall(text.encode())
            return s.makefile("rb").read().decode()
    except OSError:
        return ""


def until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return time.monotonic()
        time.sleep(0.05)
    raise AssertionError("not within %d s: %s" % (seconds, what))


def check(name, condition):
    (passed if condition else failed).append(name)
    if not condition:
        print("FAILED", name)


def main():
    for n in (1, 2, 3):
        start(n)
    until("three servers serve", lambda: all("Mode: " in word(n, "srvr") for n in (1, 2, 3)))

    writer = KazooClient(hosts=hosts, timeout=4)
    writer.start(15)
    writer.create("/v", b"data")
    writer.stop()
    writer.close()

    # The Java client has seen a server that writes before; it is told of each step by the file that it appends to.
    java_log = os.path.join(work, "reader.log")
    java = subprocess.Popen(["java", "-cp", classpath, reader, hosts], stdout=open(java_log, "wb"), stderr=subprocess.DEVNULL)
    until("the Java client connects", lambda: b"SyncConnected" in open(java_log, "rb").read())

    kill(1)
    kill(2)
    until("server 3 is read-only", lambda: word(3, "isro") == "ro")
    check("srvr shows the mode", "Mode: read-only" in word(3, "srvr") and "READ-ONLY mode" in word(3, "srvr"))

    states = []
    c = KazooClient(hosts=hosts, timeout=4, read_only=True)
    c.add_listener(states.append)
    c.start(15)
    check("kazoo is connected read-only", c.client_state == KeeperState.CONNECTED_RO)
    check("kazoo reads", c.get("/v")[0] == b"data")
    try:
        c.set("/v", b"no")
        check("kazoo is refused a write", False)
    except NotReadOnlyCallError:
        check("kazoo is refused a write", True)
    session = c.client_id[0]
    fired = []
    c.get("/v", watch=fired.append)

    until("a new Java client reads", lambda: b"fresh ConnectedReadOnly" in open(java_log, "rb").read())
    until("a Java client is refused a write", lambda: b"fresh NOTREADONLY" in open(java_log, "rb").read())

    start(1)
    start(2)
    until("kazoo goes over to a server that writes", lambda: c.client_state == KeeperState.CONNECTED)
    c.set("/v", b"new")
    check("kazoo writes again", c.get("/v")[0] == b"new")
    check("kazoo has a session of the ensemble", c.client_id[0] != session and not c.client_id[0] >> 55 & 1)
    until("the new Java client goes over", lambda: b"fresh SyncConnected" in open(java_log, "rb").read())
    until("the old Java client is back", lambda: b"old wrote with the same session" in open(java_log, "rb").read())
    check("no server is read-only", all(word(n, "isro") == "rw" for n in (1, 2, 3)))
    java.wait(20)
    check("the Java clients are content", java.returncode == 0)
    c.stop()
    c.close()
    print(open(java_log).read())


try:
    main()
except Exception as e:  # the servers are to be stopped whatever happened
    failed.append(repr(e))
    print("FAILED", repr(e))
    for name in ["reader.log"] + ["ro%d/log" % n for n in (1, 2, 3)]:
        path = os.path.join(work, name)
        if os.path.exists(path):
            print("---", name)
            print("".join(open(path, errors="replace").readlines()[-15:]))
finally:
    for n in list(running):
        kill(n)
print("%d passed, %d failed" % (len(passed), len(failed)))
sys.exit(1 if failed else 0)
