"""Two of three voters are gone: who asks for it is served reads by the third."""

import frames
from kazoo.exceptions import NotReadOnlyCallError
from kazoo.protocol.states import KazooState, KeeperState
from support import ADDRESS, VOTERS, check, client, connected, hosts, leave, order, raises, until


@check
def read_only_and_back(path):
    writer = client(*VOTERS)
    writer.create(path, b"there")
    writer.create(path + "/child", b"")
    leave(writer)
    last = 3
    for n in (1, 2):
        order("kill", n)
    order("await", last, "read-only")
    c = client(last, read_only=True)
    c.set_hosts(hosts(*VOTERS))
    until(lambda: c.client_state == KeeperState.CONNECTED_RO and c.state == KazooState.CONNECTED)
    assert order("mode", last) == "read-only"
    assert c.get(path)[0] == b"there" and c.get_children(path) == ["child"] and c.exists(path + "/none") is None
    t = c.transaction()
    t.set_data(path, b"no")
    for write in (lambda: c.create(path + "/x"), lambda: c.set(path, b"no"), lambda: c.delete(path + "/child"), lambda: c.sync(path)):
        raises(NotReadOnlyCallError, write)
    assert isinstance(raises((NotReadOnlyCallError,), commit, t), NotReadOnlyCallError)
    # Who did not ask for it, and who has seen more than this server, is sent away.
    assert frames.shake(ADDRESS[last]) == (None, None)
    assert frames.shake(ADDRESS[last], last_zxid=1 << 50, read_only=True) == (None, None)
    s, granted = frames.shake(ADDRESS[last], read_only=True)
    assert granted[1] != 0
    s.close()
    order("start", 1)
    order("await", 1, "leader", "follower")
    until(lambda: c.client_state == KeeperState.CONNECTED)
    connected(c)
    assert c.retry(c.set, path, b"back").version == 1
    assert c.get(path)[0] == b"back"


def commit(transaction):
    """kazoo gives a multi's error as its result, or raises it."""
    for result in transaction.commit():
        if isinstance(result, Exception):
            raise result


@check
def a_session_survives_the_time_without_a_majority(path):
    """A session with an ephemeral, whose client asks for no read-only server, is there when the majority is back."""
    c = client(*VOTERS, timeout=10)
    c.create(path, ephemeral=True)
    session = c.client_id
    for n in (1, 2):
        order("kill", n)
    until(lambda: c.states[-1] == KazooState.SUSPENDED)
    order("start", 2)
    order("await", 2, "leader", "follower")
    connected(c)
    assert c.client_id == session and c.retry(c.get, path)[1].ephemeralOwner == session[0]
