"""The handshake without a client library: what a server says to a client that has seen a zxid, or has a session."""

import socket
import struct


def shake(address, last_zxid=0, session=0, password=b"\0" * 16, timeout=6000, read_only=False, seconds=5):
    """The socket and (timeout, session, password) of the answer; None for both where the server just closes."""
    host, port = address.split(":")
    s = socket.create_connection((host, int(port)), seconds)
    s.settimeout(seconds)
    body = struct.pack(">iqiqi16s?", 0, last_zxid, timeout, session, 16, password, read_only)
    try:
        s.sendall(struct.pack(">i", len(body)) + body)
        head = exactly(s, 4)
        if head is None:
            s.close()
            return None, None
        answer = exactly(s, struct.unpack(">i", head)[0])
    except ConnectionError:
        s.close()
        return None, None
    _, granted, number, length = struct.unpack(">iiqi", answer[:20])
    return s, (granted, number, answer[20 : 20 + length])


def exactly(s, count):
    got = b""
    while len(got) < count:
        more = s.recv(count - len(got))
        if not more:
            return None
        got += more
    return got


def write(s, path="/"):
    """A setData of version -1, whose answer is not read."""
    body = struct.pack(">iii", 1, 5, len(path)) + path.encode() + struct.pack(">ii", 0, -1)
    s.sendall(struct.pack(">i", len(body)) + body)


def closes(s):
    """Whether the server has closed the connection, or does before the socket's timeout."""
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def moved(s):
    """Whether the session's old connection is closed. ZooKeeper may notice as late as at its next write."""
    try:
        write(s)
    except ConnectionError:
        return True
    return closes(s)
