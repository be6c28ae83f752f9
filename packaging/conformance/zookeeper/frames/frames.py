"""Sends one odd request a connection and prints what came of it: the error code, the length of the body, and whether the
connection lives on. The list is of requests that no client library sends, or that servers tend to answer differently.

usage: frames.py HOST:PORT                       print
       frames.py HOST:PORT EXPECTED DEVIATIONS   compare with a real ZooKeeper's answers; DEVIATIONS names (one a line,
                                                 with the reason behind two spaces) where cairn differs on purpose
"""

import socket
import struct
import sys

HOST, PORT = sys.argv[1].split(":")


def ints(*values):
    return struct.pack(">%di" % len(values), *values)


def text(t):
    b = t if isinstance(t, bytes) else t.encode()
    return ints(len(b)) + b


def long(v):
    return struct.pack(">q", v)


NULL = ints(-1)
NO, YES = b"\0", b"\1"
OPEN = ints(1, 31) + text("world") + text("anyone")


def acl(perms, scheme, ident):
    return ints(1, perms) + text(scheme) + text(ident)


def create(path, access=OPEN, flags=0, data=NULL):
    return (path if path == NULL else text(path)) + data + access + ints(flags)


def auth(scheme, token):
    return ints(0) + text(scheme) + token


END = struct.pack(">i?i", -1, True, -1)

REQUESTS = [
    *[(f"op {op}", op, text("/zookeeper") + ints(-1), 7) for op in (99, 500, 13, -10, 20, 0, -1, -5)],
    ("exists of an empty path", 3, text("") + NO, 7),
    ("getData of a path without slash", 4, text("abc") + NO, 7),
    ("getData of a path that ends in a slash", 4, text("/zookeeper/") + NO, 7),
    ("getData of a null path", 4, NULL + NO, 7),
    ("getChildren of a null path", 8, NULL + NO, 7),
    ("getData of bad UTF-8", 4, text(b"/\xff\xfe") + NO, 7),
    ("exists with bytes behind it", 3, text("/zookeeper") + NO + b"junk", 7),
    ("exists with a NUL", 3, text("/a\0b") + NO, 7),
    ("create of a null path", 1, create(NULL), 7),
    ("create with a null ACL", 1, create("/f1", NULL), 7),
    ("create with an empty ACL", 1, create("/f1", ints(0)), 7),
    ("create with flags 9", 1, create("/f1", flags=9), 7),
    ("create2 with flags -1", 15, create("/f1", flags=-1), 7),
    ("create with flags 4", 1, create("/f2", flags=4), 7),
    ("create with flags 5", 1, create("/f3", flags=5), 7),
    ("create of bad UTF-8", 1, create(b"/\xff\xfe"), 7),
    ("create of the root", 1, create("/"), 7),
    ("create of a name that is only a number", 1, create("/zookeeper/", flags=3), 7),
    ("create below /zookeeper", 1, create("/zookeeper/x", flags=1), 7),
    ("createContainer with flags 0", 19, create("/f4"), 7),
    ("createTTL of 0", 21, create("/f5", flags=5) + long(0), 7),
    ("createTTL of -5", 21, create("/f5", flags=5) + long(-5), 7),
    ("createTTL with flags 0", 21, create("/f6") + long(100), 7),
    ("ACL of an unknown scheme", 1, create("/f7", acl(31, "foo", "bar")), 7),
    ("ACL of x509", 1, create("/f7", acl(31, "x509", "CN=a")), 7),
    ("ACL of sasl", 1, create("/f7", acl(31, "sasl", "u")), 7),
    ("ACL of super", 1, create("/f7", acl(31, "super", "")), 7),
    ("ACL with permissions 64", 1, create("/f8", acl(64, "world", "anyone")), 7),
    ("ACL with permissions 0", 1, create("/f9", acl(0, "world", "anyone")), 7),
    ("ACL of a network of 33 bits", 1, create("/f10", acl(31, "ip", "1.2.3.4/33")), 7),
    ("ACL of digest without colon", 1, create("/f10", acl(31, "digest", "u")), 7),
    ("setACL with a null ACL", 7, text("/zookeeper") + NULL + ints(-1), 7),
    ("getACL of the root", 6, text("/"), 7),
    ("delete of the root", 2, text("/") + ints(-1), 7),
    ("delete of /zookeeper/quota", 2, text("/zookeeper/quota") + ints(-1), 7),
    ("delete of a path without slash", 2, text("abc") + ints(-1), 7),
    ("delete without a parent", 2, text("/qq/rr") + ints(-1), 7),
    ("setData of /zookeeper/config", 5, text("/zookeeper/config") + NULL + ints(-1), 7),
    ("setData of the root", 5, text("/") + NULL + ints(-1), 7),
    ("an empty multi", 14, END, 7),
    ("a multi that is cut off", 14, b"\0\0", 7),
    ("a multi of setACL", 14, struct.pack(">i?i", 7, False, -1) + text("/") + OPEN + ints(-1) + END, 7),
    ("a multi of a multi", 14, struct.pack(">i?i", 14, False, -1) + END + END, 7),
    ("an empty multiRead", 22, END, 7),
    ("setWatches of null lists", 101, long(0) + NULL * 3, -8),
    ("setWatches of empty lists", 101, long(0) + ints(0, 0, 0), -8),
    ("sync of an empty path", 9, text(""), 7),
    ("sync of nothing", 9, b"", 7),
    ("getEphemerals of null", 103, NULL, 7),
    ("removeWatches of type 9", 18, text("/") + ints(9), 7),
    ("checkWatches without any", 17, text("/") + ints(3), 7),
    ("addWatch of mode 7", 106, text("/") + ints(7), 7),
    ("addWatch of a path without slash", 106, text("x") + ints(0), 7),
    ("auth that is cut off", 100, b"\0", -4),
    ("auth of world", 100, auth("world", text("anyone")), -4),
    ("auth of ip", 100, auth("ip", text("")), -4),
    ("auth of digest without colon", 100, auth("digest", text("abc")), -4),
    ("auth of digest null", 100, auth("digest", NULL), -4),
    ("auth without a scheme", 100, auth("", text("x")), -4),
    ("sasl", 102, text(""), 7),
    ("sasl of null", 102, NULL, 7),
    ("whoAmI", 107, b"", 7),
    ("reconfig", 16, text("a") + text("") + text("") + long(-1), 7),
    ("reconfig of nothing", 16, b"", 7),
    ("a ping with another xid", 11, b"", 55),
    ("closeSession", -11, b"", 7),
]


def connect():
    s = socket.create_connection((HOST, int(PORT)))
    s.settimeout(5)
    frame = struct.pack(">iqiqi16s?", 0, 0, 5000, 0, 16, b"", False)
    s.sendall(ints(len(frame)) + frame)
    read(s)
    return s


def read(s):
    """One frame, or None when the connection is closed."""
    try:
        head = s.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return None
        return s.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
    except ConnectionError:
        return None


def ask(op, body, xid):
    s = connect()
    frame = ints(xid, op) + body
    s.sendall(ints(len(frame)) + frame)
    answer = read(s)
    if answer is None:
        return "closed without an answer"
    got, _, code = struct.unpack(">iqi", answer[:16])
    try:
        ping = ints(-2, 11)
        s.sendall(ints(len(ping)) + ping)
        alive = read(s) is not None
    except ConnectionError:
        alive = False
    s.close()
    return f"xid {got}, code {code}, {len(answer) - 16} bytes, then {'alive' if alive else 'closed'}"


def main():
    results = [(name, ask(op, body, xid)) for name, op, body, xid in REQUESTS]
    if len(sys.argv) < 4:
        for name, result in results:
            print(f"{name}: {result}")
        return 0
    with open(sys.argv[2], encoding="utf-8") as f:
        expected = dict(line.rstrip("\n").split(": ", 1) for line in f)
    with open(sys.argv[3], encoding="utf-8") as f:
        allowed = {line.split("  ")[0].strip() for line in f if line.strip() and not line.startswith("#")}
    passed = failed = 0
    for name, result in results:
        if result == expected.get(name):
            passed += 1
        elif name in allowed:
            print(f"differs on purpose: {name}: {result}; ZooKeeper: {expected.get(name)}")
        else:
            failed += 1
            print(f"fail {name}: {result}; ZooKeeper: {expected.get(name)}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
