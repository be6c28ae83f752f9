"""Servers are added, promoted, demoted and removed while clients write."""

import re
import threading
import time

from kazoo.exceptions import BadArgumentsError, BadVersionError, ConnectionLoss, MarshallingError, NewConfigNoQuorumError, NoAuthError, ReconfigInProcessError
from support import ADDRESS, OBSERVER, VOTERS, check, client, followers, leader, order, raises, until

CONFIG = "/zookeeper/config"


class Load:
    """Writers on all servers, whose every acknowledged create must be there afterwards."""

    def __init__(self, path):
        self.path, self.done, self.threads, self.failed = path, False, [], []
        self.acknowledged, self.lost = [], 0
        for n in ADDRESS:
            c = client(n, *[m for m in VOTERS if m != n])
            c.ensure_path(f"{path}/{n}")
            self.threads.append(threading.Thread(target=self.write, args=(c, n), daemon=True))
        for t in self.threads:
            t.start()

    def write(self, c, n):
        i = 0
        while not self.done:
            try:
                self.acknowledged.append(c.create(f"{self.path}/{n}/", b"%d" % i, sequence=True))
            except ConnectionLoss:
                self.lost += 1
                time.sleep(0.02)
            except Exception as e:
                self.failed.append(f"writer {n}: {type(e).__name__} {e}")
                return
            i += 1

    def end(self, c):
        self.done = True
        for t in self.threads:
            t.join(20)
        assert not self.failed, self.failed
        assert len(set(self.acknowledged)) == len(self.acknowledged) > 100, len(self.acknowledged)
        c.sync(self.path)
        there = {f"{self.path}/{n}/{name}" for n in ADDRESS for name in c.get_children(f"{self.path}/{n}")}
        missing = set(self.acknowledged) - there
        assert not missing, f"{len(missing)} acknowledged creates are lost"


def members(data):
    """Which servers there are, with their roles, and the version."""
    text = data.decode()
    servers = {int(n): role for n, role in re.findall(r"^server\.(\d+)=.*?:(participant|observer)", text, re.M)}
    return servers, int(re.search(r"^version=([0-9a-f]+)$", text, re.M).group(1), 16)


def change(c, **kw):
    """One reconfig. A lost connection, or a change that another one is still busy with, is asked again."""
    deadline = time.monotonic() + 20
    arguments = dict(joining=None, leaving=None, new_members=None)
    arguments.update(kw)
    while True:
        try:
            data, stat = c.reconfig(**arguments)
        except (ConnectionLoss, ReconfigInProcessError, NewConfigNoQuorumError):
            assert time.monotonic() < deadline, f"{kw} does not come to pass"
            time.sleep(0.1)
            continue
        servers, version = members(data)
        assert stat.mzxid == version or stat.mzxid > version, (stat, version)
        return servers


def admin(*numbers):
    return client(*numbers, auth_data=[("digest", "super:test")])


EVERYBODY = {1: "participant", 2: "participant", 3: "participant", 4: "observer"}


class Watcher:
    """An administrator on one server, whose watch of the configuration must fire for each change."""

    def __init__(self, number):
        self.c, self.events, self.versions = admin(number), [], [0]

    def look(self):
        data, _ = self.c.retry(self.c.get, CONFIG, watch=self.events.append)
        servers, version = members(data)
        self.versions.append(version)
        return servers

    def expect(self, servers, **kw):
        self.look()
        before = len(self.events)
        assert change(self.c, **kw) == servers, kw
        until(lambda: len(self.events) > before)
        assert self.look() == servers
        assert self.versions[-1] > self.versions[-2], "the version of the configuration did not grow"


def without(number):
    return {n: role for n, role in EVERYBODY.items() if n != number}


def replace(w, number):
    """Removes a voter, starts it anew, and adds it again."""
    w.expect(without(number), leaving=str(number))
    order("renew", number)
    w.expect(EVERYBODY, joining=order("line", number, "participant"))
    order("await", number, "follower", "leader")


@check
def reconfig_under_load(path):
    load = Load(path)
    victim, other = followers()
    w = Watcher(other)
    assert w.look() == EVERYBODY
    w.expect(without(OBSERVER), leaving=str(OBSERVER))
    order("renew", OBSERVER)
    w.expect(EVERYBODY, joining=order("line", OBSERVER, "observer"))
    order("await", OBSERVER, "observer")
    w.expect({**EVERYBODY, OBSERVER: "participant"}, joining=order("line", OBSERVER, "participant"))
    order("await", OBSERVER, "follower", "leader")
    w.expect(EVERYBODY, joining=order("line", OBSERVER, "observer"))
    order("await", OBSERVER, "observer")
    replace(w, victim if victim != leader() else other)
    # The leader too, which another one takes over from.
    w = Watcher(followers()[0])
    replace(w, leader())
    order("heal")
    load.end(w.c)
    # All servers show the same.
    for n in ADDRESS:
        c = client(n)
        c.sync(CONFIG)
        assert members(c.get(CONFIG)[0]) == (EVERYBODY, w.versions[-1]), n


@check
def reconfigs_that_are_refused(path):
    c = admin(*VOTERS)
    data, _ = c.get(CONFIG)
    servers, version = members(data)
    raises(NoAuthError, client(*VOTERS).reconfig, None, "4", None)
    raises(BadVersionError, c.reconfig, None, "4", None, version - 1)
    raises(BadArgumentsError, c.reconfig, "server.9=nonsense", None, None)
    raises(MarshallingError, c.reconfig, None, "one", None)
    raises(BadArgumentsError, c.reconfig, None, "1,2,3", None)
    far = ["server.%d=127.0.0.1:%d:%d:participant;127.0.0.1:%d" % (n, 11000 + n, 11100 + n, 11200 + n) for n in (8, 9)]
    # Two of the three that would vote are not there. ZooKeeper also says so where the leader would be none of them.
    raises(NewConfigNoQuorumError, c.reconfig, None, None, ",".join([order("line", leader(), "participant")] + far))
    assert c.get(CONFIG)[0] == data, "a refused change has changed something"
