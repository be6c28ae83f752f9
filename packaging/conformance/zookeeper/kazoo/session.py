"""A session of each operation and recipe of kazoo against one ZooKeeper server.

usage: session.py HOST:PORT
Each function named check_* is one check; it gets a connected client and a path of its own. What it asserts is what
ZooKeeper 3.9.5 does.
"""

import socket
import struct
import sys
import threading
import time
import traceback
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType, KazooState
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

HOSTS = sys.argv[1]
open_clients = []


def connect(**kw):
    client = KazooClient(hosts=HOSTS, timeout=kw.pop("timeout", 5.0), **kw)
    client.start(timeout=10)
    open_clients.append(client)
    return client


def raises(kind, f, *args, **kw):
    try:
        f(*args, **kw)
    except kind:
        return
    raise AssertionError(f"{f} did not raise {kind.__name__}")


def wait_for(what, seconds=10):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def check_create_modes(zk, path):
    assert zk.create(path, b"x") == path
    raises(NodeExistsError, zk.create, path)
    raises(NoNodeError, zk.create, path + "/a/b")
    assert zk.create(path + "/a/b", makepath=True) == path + "/a/b"
    assert zk.create(path + "/s-", sequence=True) == path + "/s-0000000001"
    assert zk.create(path + "/s-", sequence=True, ephemeral=True) == path + "/s-0000000002"
    eph, stat = zk.create(path + "/e", b"1", ephemeral=True, include_data=True)
    assert eph == path + "/e" and stat.ephemeralOwner == zk.client_id[0] and stat.dataLength == 1
    raises(NoChildrenForEphemeralsError, zk.create, path + "/e/x")


def check_get_set(zk, path):
    zk.create(path, b"one")
    data, stat = zk.get(path)
    assert data == b"one" and stat.version == 0 and stat.czxid == stat.mzxid
    stat = zk.set(path, b"two", version=0)
    assert stat.version == 1 and stat.mzxid > stat.czxid and stat.dataLength == 3
    raises(BadVersionError, zk.set, path, b"x", version=0)
    raises(NoNodeError, zk.get, path + "/none")
    zk.set(path, None)
    assert zk.get(path)[0] is None
    zk.set(path, b"")
    assert zk.get(path)[0] == b""
    big = b"b" * 1_000_000
    zk.set(path, big)
    assert zk.get(path)[0] == big


def check_delete(zk, path):
    zk.ensure_path(path + "/a")
    raises(NotEmptyError, zk.delete, path)
    raises(BadVersionError, zk.delete, path + "/a", version=7)
    raises(NoNodeError, zk.delete, path + "/none")
    zk.delete(path, recursive=True)
    assert zk.exists(path) is None


def check_children(zk, path):
    zk.ensure_path(path)
    for i in range(10):
        zk.create(f"{path}/c{i}")
    for i in range(5):
        zk.delete(f"{path}/c{i}")
    children, stat = zk.get_children(path, include_data=True)
    assert sorted(children) == [f"c{i}" for i in range(5, 10)]
    assert stat.numChildren == 5 and stat.cversion == 15, stat


def check_paths(zk, path):
    zk.ensure_path(path)
    for bad in ("/\u0001", "/\ue000", "/\ufff0"):
        raises(BadArgumentsError, zk.create, path + bad)
    for good in ("/ with space", "/\u00fc\u4e2d", "/..."):
        assert zk.get(zk.create(path + good, b"1"))[0] == b"1"
    raises(BadArgumentsError, zk.delete, "/zookeeper")


def check_acl(zk, path):
    acl = [make_digest_acl("user", "pw", all=True)]
    zk.create(path, b"s", acl=acl)
    raises(NoAuthError, zk.get, path)
    raises(InvalidACLError, zk.create, path + "x", acl=[make_acl("auth", "", all=True)])
    zk.add_auth("digest", "user:pw")
    assert zk.get(path)[0] == b"s"
    acls, stat = zk.get_acls(path)
    assert acls == acl and stat.aversion == 0
    assert zk.set_acls(path, OPEN_ACL_UNSAFE, version=0).aversion == 1
    raises(BadVersionError, zk.set_acls, path, OPEN_ACL_UNSAFE, version=0)
    zk.create(path + "/own", acl=[make_acl("auth", "", all=True)])
    assert zk.get_acls(path + "/own")[0] == acl
    zk.create(path + "/ip", acl=[make_acl("ip", "127.0.0.0/8", all=True)])
    assert zk.get(path + "/ip")[0] == b""
    zk.create(path + "/far", acl=[make_acl("ip", "10.0.0.0/8", all=True)])
    raises(NoAuthError, zk.get, path + "/far")
    zk.add_auth("digest", "super:test")
    zk.get(path + "/far")
    other = connect(auth_data=[("digest", "user:pw")])
    assert other.get_acls(path + "/own")[0] == acl


def check_transactions(zk, path):
    zk.create(path, b"0")
    t = zk.transaction()
    t.check(path, version=0)
    t.create(path + "/a", b"1")
    t.set_data(path + "/a", b"2")
    t.create(path + "/s", sequence=True, ephemeral=True)
    t.delete(path + "/a", version=1)
    results = t.commit()
    assert results[0] is True and results[1] == path + "/a" and results[2].version == 1, results
    assert results[3] == path + "/s0000000001" and results[4] is True, results
    t = zk.transaction()
    t.create(path + "/b")
    t.check(path, version=99)
    t.create(path + "/c")
    results = t.commit()
    assert [type(r) for r in results] == [RolledBackError, BadVersionError, RuntimeInconsistency], results
    assert zk.exists(path + "/b") is None


def check_sync_and_async(zk, path):
    zk.create(path)
    assert zk.sync(path) == path
    asked = [zk.create_async(f"{path}/{i:03}", b"v") for i in range(200)]
    asked += [zk.get_async(f"{path}/{i:03}") for i in range(200)]
    got = [a.get(timeout=20) for a in asked]
    assert got[:200] == [f"{path}/{i:03}" for i in range(200)]
    assert all(data == b"v" for data, _ in got[200:])
    zxids = [stat.czxid for _, stat in got[200:]]
    assert zxids == sorted(set(zxids))


def check_watches(zk, path):
    seen = []
    assert zk.exists(path, watch=seen.append) is None
    zk.create(path, b"0")
    wait_for(lambda: seen)
    assert (seen[0].type, seen[0].path) == (EventType.CREATED, path)
    zk.get(path, watch=seen.append)
    zk.get_children(path, watch=seen.append)
    zk.set(path, b"1")
    zk.create(path + "/c")
    wait_for(lambda: len(seen) == 3)
    assert [e.type for e in seen[1:]] == [EventType.CHANGED, EventType.CHILD]
    zk.delete(path + "/c")
    zk.exists(path, watch=seen.append)
    zk.delete(path)
    wait_for(lambda: len(seen) == 4)
    assert seen[3].type == EventType.DELETED


def check_data_and_children_watch(zk, path):
    data, children = [], []
    zk.ensure_path(path)
    zk.DataWatch(path, lambda d, stat: data.append(d))
    zk.ChildrenWatch(path, lambda c: children.append(sorted(c)))
    for i in range(3):
        zk.set(path, b"%d" % i)
        wait_for(lambda: data[-1] == b"%d" % i)
        zk.create(f"{path}/{i}")
        wait_for(lambda: len(children[-1]) == i + 1)


def check_ephemerals_end_with_session(zk, path):
    other = connect()
    other.create(path, ephemeral=True)
    gone = threading.Event()
    zk.exists(path, watch=lambda e: gone.set())
    other.stop()
    assert gone.wait(10)
    assert zk.exists(path) is None


def check_expiry(zk, path):
    """A session whose client says nothing ends, although its connection stays open; kazoo cannot be silent."""

    def text(t):
        return struct.pack(">i", len(t)) + t.encode()

    host, port = HOSTS.split(":")
    with socket.create_connection((host, int(port))) as s:
        for frame in (
            struct.pack(">iqiqi16s?", 0, 0, 1000, 0, 16, b"", False),
            struct.pack(">ii", 1, 1) + text(path) + text("") + struct.pack(">ii", 1, 31) + text("world") + text("anyone") + struct.pack(">i", 1),
        ):
            s.sendall(struct.pack(">i", len(frame)) + frame)
        wait_for(lambda: zk.exists(path))
        gone = threading.Event()
        zk.exists(path, watch=lambda e: gone.set())
        began = time.monotonic()
        assert gone.wait(15) and zk.exists(path) is None
        assert time.monotonic() - began < 5


def check_reconnect_keeps_session(zk, path):
    other = connect()
    other.create(path, ephemeral=True)
    session = other.client_id
    states = []
    other.add_listener(states.append)
    other._connection._socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: KazooState.SUSPENDED in states and states[-1] == KazooState.CONNECTED)
    assert other.client_id == session
    assert zk.exists(path).ephemeralOwner == session[0]


def check_locks(zk, path):
    clients = [connect() for _ in range(4)]
    inside, most, total = [], [0], [0]
    guard = threading.Lock()

    def work(client):
        for _ in range(5):
            with client.Lock(path, uuid.uuid4().hex):
                with guard:
                    inside.append(client)
                    most[0] = max(most[0], len(inside))
                    total[0] += 1
                with guard:
                    inside.pop()

    threads = [threading.Thread(target=work, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert most[0] == 1 and total[0] == 20, (most, total)


def check_read_write_locks_and_semaphore(zk, path):
    a, b = connect(), connect()
    first, second = a.ReadLock(path + "/rw"), b.ReadLock(path + "/rw")
    assert first.acquire(timeout=5) and second.acquire(timeout=5)
    assert not b.WriteLock(path + "/rw").acquire(blocking=False)
    first.release(), second.release()
    writer = b.WriteLock(path + "/rw")
    assert writer.acquire(timeout=5)
    writer.release()
    s1, s2, s3 = (c.Semaphore(path + "/sem", max_leases=2) for c in (zk, a, b))
    assert s1.acquire(timeout=5) and s2.acquire(timeout=5) and not s3.acquire(blocking=False)
    s1.release()
    assert s3.acquire(timeout=5)
    s2.release(), s3.release()


def check_elections(zk, path):
    leaders, clients = [], [connect() for _ in range(3)]
    release = [threading.Event() for _ in clients]

    def lead(i):
        leaders.append(i)
        release[i].wait(20)

    threads = []
    for i, c in enumerate(clients):
        election = c.Election(path, f"candidate-{i}")
        thread = threading.Thread(target=election.run, args=(lead, i), daemon=True)
        thread.start()
        threads.append(thread)
        wait_for(lambda: len(zk.retry(zk.get_children, path)) == i + 1 if zk.exists(path) else False)
    wait_for(lambda: leaders == [0])
    assert zk.Election(path).contenders() == [f"candidate-{i}" for i in range(3)]
    for i in range(3):
        release[i].set()
        wait_for(lambda: len(leaders) >= min(i + 2, 3))
    for t in threads:
        t.join(20)
    assert leaders == [0, 1, 2]


def check_queues_barriers_counters_parties(zk, path):
    queue = zk.LockingQueue(path + "/q")
    queue.put_all([b"1", b"2"])
    assert queue.get(5) == b"1" and queue.consume() and queue.get(5) == b"2" and queue.consume()
    counter = zk.Counter(path + "/n")
    counter += 5
    counter -= 2
    assert counter.value == 3
    barrier = zk.Barrier(path + "/b")
    barrier.create()
    assert not barrier.wait(0.2)
    barrier.remove()
    assert barrier.wait(5)
    other = connect()
    one, two = zk.Party(path + "/p", "one"), other.Party(path + "/p", "two")
    one.join(), two.join()
    assert sorted(one) == ["one", "two"]
    two.leave()
    assert list(one) == ["one"]


def check_server_words(zk, path):
    assert zk.server_version()[:2] == (3, 9), zk.server_version()
    assert zk.command(b"ruok") == "imok"
    for word, start in ((b"srvr", "Zookeeper version: 3.9"), (b"stat", "Zookeeper version: 3.9"), (b"mntr", "zk_version\t"),
                        (b"envi", "Environment:"), (b"conf", "clientPort="), (b"cons", " /127.0.0.1:"),
                        (b"dump", "SessionTracker dump:"), (b"wchs", ""), (b"isro", "rw")):
        assert zk.command(word).startswith(start), (word, zk.command(word))


def main():
    zk = connect()
    passed = failed = 0
    for name, check in sorted(globals().items()):
        if not name.startswith("check_"):
            continue
        try:
            check(connect(), "/" + name[len("check_"):].replace("_", "-"))
            passed += 1
            print("pass", name, flush=True)
        except Exception:
            failed += 1
            print("fail", name, flush=True)
            traceback.print_exc(file=sys.stdout)
        for client in open_clients:
            if client is not zk:
                try:
                    client.stop()
                    client.close()
                except Exception:
                    pass
        del open_clients[:]
        open_clients.append(zk)
    zk.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
