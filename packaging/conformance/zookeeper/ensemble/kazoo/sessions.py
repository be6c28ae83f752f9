"""Sessions that are restored in another process and on other servers, and clients that know more than a server."""

import os
import subprocess
import sys

import frames
from kazoo.protocol.states import KazooState
from support import ADDRESS, OBSERVER, check, client, connected, disconnected, followers, hosts, leader, order, until


def hold(number, path):
    """The other process: opens a session, says which, and ends without a word when its connection does."""
    c = client(int(number))
    c.create(path, ephemeral=True)
    print(*map(str, (c.client_id[0], c.client_id[1].hex())), flush=True)
    write_until_moved(c, path)
    print("closed", flush=True)
    os._exit(0)


def write_until_moved(c, path):
    """ZooKeeper may notice as late as at its next write that the session is another connection's now."""

    def closed():
        c.set_async(path, b"still here")
        return c.states[-1] == KazooState.SUSPENDED

    until(closed)


def restore(session, password, number, **kw):
    return client(number, client_id=(session, password), **kw)


@check
def sessions_move_and_close(path):
    first, second = followers()
    holder = subprocess.Popen([sys.executable, sys.argv[0], "--hold", str(first), path], stdout=subprocess.PIPE, text=True)
    try:
        number, password = holder.stdout.readline().split()
        session, password = int(number), bytes.fromhex(password)
        # A wrong password is told that the session is gone, which it is not.
        # (A real ZooKeeper closes the session's connection before it looks at the password, where both are on one server.)
        for n in set(ADDRESS) - {first}:
            s, granted = frames.shake(ADDRESS[n], session=session, password=b"0123456789abcdef")
            assert granted == (0, 0, b"\0" * 16) and frames.closes(s), (n, granted)
        wrong = restore(session, b"0123456789abcdef", second)
        assert wrong.client_id[0] != session  # kazoo goes on with a new one
        wrong.stop()
        assert holder.poll() is None, "the connection of the session was closed for a wrong password"

        moved = restore(session, password, second)
        assert moved.client_id == (session, password)
        assert moved.get(path)[1].ephemeralOwner == session
        assert holder.stdout.readline().strip() == "closed"
        assert holder.wait(20) == 0
    finally:
        holder.kill()
        holder.wait()

    # Within this process, to the observer; the old connection is closed and sent nowhere.
    moved.set_hosts(hosts())
    again = restore(session, password, OBSERVER)
    write_until_moved(moved, path)
    assert again.client_id == (session, password)
    again.create(path + "-observer", ephemeral=True)
    witnesses = [client(n) for n in ADDRESS]
    for w in witnesses:
        w.sync(path)
        assert w.get(path + "-observer")[1].ephemeralOwner == session
    again.stop()
    again.close()
    for w in witnesses:
        w.sync(path)
        assert w.exists(path) is None and w.exists(path + "-observer") is None
    for n in ADDRESS:
        s, granted = frames.shake(ADDRESS[n], session=session, password=password)
        assert granted == (0, 0, b"\0" * 16) and frames.closes(s), (n, granted)


@check
def sessions_back_and_forth(path):
    """A session that is asked for on all servers in turn, without closing the last connection, is on the last one."""
    s, (_, session, password) = frames.shake(ADDRESS[1])
    for n in (2, 4, 3, 1, 4, 2) * 3:
        t, granted = frames.shake(ADDRESS[n], session=session, password=password)
        assert granted[1:] == (session, password), granted
        assert frames.moved(s), f"the connection before that to server {n} was left open"
        s.close()
        s = t
    s.close()


@check
def expiry_takes_ephemerals_everywhere(path):
    witnesses = [client(n) for n in ADDRESS]
    s, (_, session, password) = frames.shake(ADDRESS[OBSERVER], timeout=1000)
    dying = restore(session, password, followers()[0], timeout=1)
    dying.create(path, ephemeral=True)
    gone = []
    for w in witnesses:
        w.sync(path)
        assert w.exists(path, watch=gone.append)
    # Nobody says goodbye: the connection is closed, and nowhere to go.
    dying.set_hosts(hosts())
    dying._connection._socket.shutdown(2)
    until(lambda: len(gone) == len(witnesses))
    for w in witnesses:
        assert w.exists(path) is None
    dying.set_hosts(hosts(leader()))
    until(lambda: KazooState.LOST in dying.states)
    dying.stop()


@check
def a_server_behind_is_not_read(path):
    """A client that has seen a write is not served by a server that has not."""
    writer = client(leader())
    writer.create(path, b"0")
    for n in ADDRESS:
        # Ahead of all servers: each closes the connection without an answer, until it has caught up.
        seen = writer.set(path, b"-").mzxid + 30
        assert frames.shake(ADDRESS[n], last_zxid=seen) == (None, None), f"server {n} took a client from the future"
        for _ in range(40):
            writer.set(path, b"-")
        s, granted = until(lambda: (r := frames.shake(ADDRESS[n], last_zxid=seen))[0] and r)
        assert granted[1] != 0
        s.close()


@check
def a_frozen_follower_is_not_read_until_it_caught_up(path):
    frozen, refuge = followers()
    writer = client(leader())
    writer.create(path, b"0")
    c = client(refuge)
    for round in range(3):
        order("freeze", frozen)
        stat = None
        for i in range(150):
            stat = writer.set(path, b"%d-%d" % (round, i) + b"x" * 2000)
        c.sync(path)
        assert c.get(path)[1].version == stat.version
        c.set_hosts(hosts(frozen))
        c._connection._socket.shutdown(2)
        raw = [frames_in_flight(frozen, stat.mzxid) for _ in range(20)]
        order("thaw", frozen)
        connected(c)
        assert c.get(path)[1].version == stat.version, "an older state than the client had seen"
        for s in raw:
            zxid = first_zxid(s)
            assert zxid is None or zxid >= stat.mzxid, (zxid, stat.mzxid)
        c.set_hosts(hosts(refuge))
        c._connection._socket.shutdown(2)
        disconnected(c)
        connected(c)


def frames_in_flight(number, last_zxid):
    """A connection that has asked for a session, and for a node behind that, and has not read an answer."""
    import socket
    import struct

    host, port = ADDRESS[number].split(":")
    s = socket.create_connection((host, int(port)), 20)
    s.settimeout(20)
    connect = struct.pack(">iqiqi16s?", 0, last_zxid, 2000, 0, 16, b"", False)
    exists = struct.pack(">iii1s?", 1, 3, 1, b"/", False)
    s.sendall(struct.pack(">i", len(connect)) + connect + struct.pack(">i", len(exists)) + exists)
    return s


def first_zxid(s):
    """The zxid of the first answer behind the handshake, or None where the server closed the connection."""
    import struct

    with s:
        try:
            head = frames.exactly(s, 4)
            if head is None:
                return None
            frames.exactly(s, struct.unpack(">i", head)[0])
            head = frames.exactly(s, 4)
            return head and struct.unpack(">iqi", frames.exactly(s, struct.unpack(">i", head)[0])[:16])[1]
        except ConnectionError:
            return None
