"""czxid as an epoch, as Kafka has it: the registration of a broker, and the epoch of the controller."""

from kazoo.exceptions import BadVersionError, RolledBackError
from support import SESSION, VOTERS, check, client, leader, leave, order


@check
def czxid_rises_over_leaders_and_restarts(path):
    c = client(1, 2, 3, 4)
    c.ensure_path(path)
    c.create(path + "/controller_epoch", b"0")
    last, epoch = 0, 0
    for round in range(4):
        t = c.transaction()
        t.create(path + "/broker", b"round %d" % round, ephemeral=True)
        t.set_data(path + "/broker", b"registered", 0)
        t.check(path + "/controller_epoch", epoch)
        t.set_data(path + "/controller_epoch", b"%d" % round, epoch)
        results = c.retry(t.commit)
        assert results[0] == path + "/broker", results
        data, stat = c.get(path + "/broker")
        assert data == b"registered" and stat.czxid == stat.mzxid == results[1].mzxid
        assert stat.czxid > last, (stat.czxid, last)
        last, epoch = stat.czxid, epoch + 1

        stale = c.transaction()
        stale.check(path + "/controller_epoch", epoch - 1)
        stale.create(path + "/stale")
        assert [type(r) for r in stale.commit()][0] is BadVersionError
        assert c.exists(path + "/stale") is None

        if round % 2:
            leave(c)
            for n in (1, 2, 3, 4):
                order("kill", n)
            order("heal")
        else:
            order("kill", leader())
            leave(c)
            order("leader")
            order("heal")
        c = client(1, 2, 3, 4)
        if c.exists(path + "/broker"):  # the old registration has not expired: replaced, as Kafka does it
            old = c.get(path + "/broker")[1]
            assert old.czxid == last
            c.delete(path + "/broker")


@check
def ephemerals_outlive_a_restart_of_all(path):
    """A session, and what is its own, is there when all servers were away for a moment."""
    c = client(1, 2, 3, 4, timeout=10)
    c.create(path, ephemeral=True)
    session = c.client_id
    czxid = c.get(path)[1].czxid
    for n in (1, 2, 3, 4):
        order("kill", n)
    order("heal")
    stat = c.retry(c.get, path)[1]
    assert c.client_id == session and stat.ephemeralOwner == session[0] and stat.czxid == czxid
    assert c.create(path + "-next", ephemeral=True) and c.get(path + "-next")[1].czxid > czxid
