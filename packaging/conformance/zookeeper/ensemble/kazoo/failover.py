"""The server of a client dies while it has a session, an ephemeral, watches and operations under way."""

from kazoo.exceptions import ConnectionLoss
from support import OBSERVER, check, client, connected, disconnected, followers, hosts, leader, order, until

OPERATIONS = 400


def outcomes(asked):
    """What became of each operation: its result, or None where the connection was lost."""
    got = []
    for a in asked:
        try:
            got.append(a.get(timeout=20))
        except ConnectionLoss:
            got.append(None)
    return got


def creates(c, path):
    """Creates under way, every second of them with a sequence number, numbered in their data; some are answered."""
    asked = []
    for i in range(OPERATIONS):
        number = b"%d" % i
        asked.append(c.create_async(f"{path}/n/p-{i}", number) if i % 2 else c.create_async(path + "/n/s-", number, sequence=True))
    asked[20].get(timeout=20)
    return asked


def judge(c, path, got):
    """What came to pass are the first of the operations, each once, in their order, and among them all that had a result."""
    found = {}
    for name in c.get_children(path + "/n"):
        data, stat = c.get(f"{path}/n/{name}")
        assert int(data) not in found, f"operation {int(data)} was done twice"
        found[int(data)] = (stat.czxid, f"{path}/n/{name}")
    assert sorted(found) == list(range(len(found))), "an operation was done and one before it was not"
    zxids = [found[i][0] for i in range(len(found))]
    assert zxids == sorted(set(zxids)), "operations were done in another order"
    for i, result in enumerate(got):
        assert result is None or found[i][1] == result, (i, result)
    done = sum(result is not None for result in got)
    assert 20 < done <= len(found), (done, len(found))


def fail_over(path, victim, refuge):
    """The client's server dies, other things happen meanwhile, and the client goes on at the refuge."""
    c = client(victim)
    session = c.client_id
    other = client(*[n for n in (1, 2, 3) if n != victim])
    c.ensure_path(path + "/n")
    c.create(path + "/alive", ephemeral=True)
    c.create(path + "/watched", b"before")
    c.create(path + "/same", b"same")
    seen, same, children = [], [], []
    c.DataWatch(path + "/watched", lambda data, stat: seen.append(data))
    c.DataWatch(path + "/same", lambda data, stat: same.append(data))
    c.ChildrenWatch(path + "/watched", lambda names: children.append(names))

    asked = creates(c, path)
    c.set_hosts(hosts())
    order("kill", victim)
    disconnected(c)
    got = outcomes(asked)

    other.retry(other.set, path + "/watched", b"after")
    other.retry(other.create, path + "/watched/child")
    c.set_hosts(hosts(refuge))
    connected(c)
    assert c.client_id == session, (c.client_id, session)
    c.sync(path)
    assert c.get(path + "/alive")[1].ephemeralOwner == session[0]
    until(lambda: seen == [b"before", b"after"] and children == [[], ["child"]])

    judge(c, path, got)

    # Each event came once: those of the marker would be behind a second one.
    c.DataWatch(path + "/marker", lambda data, stat: seen.append(data))
    other.retry(other.create, path + "/marker", b"marker")
    until(lambda: seen[-1] == b"marker")
    assert seen == [b"before", b"after", None, b"marker"] and same == [b"same"] and children == [[], ["child"]], (seen, same, children)


@check
def failover_from_a_follower(path):
    victim, refuge = followers()
    fail_over(path, victim, refuge)


@check
def failover_from_the_leader(path):
    fail_over(path, leader(), followers()[0])


@check
def failover_to_the_observer(path):
    fail_over(path, leader(), OBSERVER)


@check
def the_leader_dies_behind_a_follower(path):
    """What a follower had handed over may have come to pass or not; it must not be handed to the next leader once more."""
    for round in range(3):
        at = f"{path}/{round}"
        c = client(followers()[0])
        c.ensure_path(at + "/n")
        asked = creates(c, at)
        order("kill", leader())
        got = outcomes(asked)
        connected(c)
        c.retry(c.sync, at)
        judge(c, at, got)
        order("heal")
