"""Thousands of operations under way on one connection. That answers come in the order of the requests kazoo checks itself."""

from kazoo.exceptions import BadVersionError, NodeExistsError, RolledBackError, RuntimeInconsistency
from support import OBSERVER, check, client, followers

NODES = 800


def pipeline(c, path):
    c.create(path)
    asked = []
    for i in range(NODES):
        node = f"{path}/{i:04}"
        asked.append(("create", node, c.create_async(node, b"0")))
        asked.append(("set", node, c.set_async(node, b"1")))
        asked.append(("get", node, c.get_async(node)))
        if i % 8 == 0:
            t = c.transaction()
            t.check(node, 1)
            t.create(node + "/in")
            t.set_data(node, b"2", 1)
            asked.append(("multi", node, t.commit_async()))
            asked.append(("got", node, c.get_async(node)))
            t = c.transaction()
            t.delete(node + "/in")
            t.set_data(node, b"3")
            t.create(node)
            t.delete(node)
            asked.append(("failed", node, t.commit_async()))
            asked.append(("got", node, c.get_async(node)))
            asked.append(("there", node, c.exists_async(node + "/in")))
            asked.append(("version", node, c.set_async(node, b"x", 0)))
    zxids = []
    for kind, node, a in asked:
        if kind == "create":
            assert a.get(timeout=30) == node
        elif kind == "set":
            stat = a.get(timeout=30)
            assert stat.version == 1
            zxids.append(stat.mzxid)
        elif kind == "get":
            data, stat = a.get(timeout=30)
            assert (data, stat.version) == (b"1", 1) and stat.mzxid == zxids[-1], (node, data, stat, zxids[-1])
            assert stat.czxid < stat.mzxid
            zxids.insert(-1, stat.czxid)
        elif kind == "multi":
            results = a.get(timeout=30)
            assert results[0] is True and results[1] == node + "/in" and results[2].version == 2, results
            zxids.append(results[2].mzxid)
        elif kind == "got":
            data, stat = a.get(timeout=30)
            assert (data, stat.version, stat.numChildren) == (b"2", 2, 1), (node, data, stat)
        elif kind == "there":
            assert a.get(timeout=30).czxid == zxids[-1], "not what the multi made"
        elif kind == "failed":
            results = [type(r) for r in a.get(timeout=30)]
            assert results == [RolledBackError, RolledBackError, NodeExistsError, RuntimeInconsistency], results
        elif kind == "version":
            try:
                raise AssertionError(a.get(timeout=30))
            except BadVersionError:
                pass
    assert zxids == sorted(set(zxids)), "zxids did not rise"


@check
def pipelined_through_a_follower(path):
    pipeline(client(followers()[0]), path)


@check
def pipelined_through_the_observer(path):
    pipeline(client(OBSERVER), path)
