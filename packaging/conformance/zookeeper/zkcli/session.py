"""Runs one zkCli session and compares what it printed, command by command.

usage: session.py CLASSPATH HOST:PORT COMMANDS EXPECTED          compare
       session.py CLASSPATH HOST:PORT COMMANDS EXPECTED --write  write EXPECTED anew (against a real ZooKeeper)

Between commands the session asks for a node that does not exist; its error marks where the next output begins. What
differs from run to run (zxids, times, session ids, addresses) is replaced, and events, which another thread prints, are
compared apart from the output, as a set in the order of their paths.
"""

import re
import subprocess
import sys

MARK = "Node does not exist: /mark-"

REPLACED = [
    (re.compile(r"^(cZxid|mZxid|pZxid) = 0x0$"), r"\1 = 0x0"),
    (re.compile(r"^(cZxid|mZxid|pZxid) = 0x[1-9a-f][0-9a-f]*$"), r"\1 = ZXID"),
    (re.compile(r"^(ctime|mtime) = (?!Thu Jan 01 00:00:00).*$"), r"\1 = TIME"),
    (re.compile(r"^ephemeralOwner = 0x[1-9a-f][0-9a-f]*$"), "ephemeralOwner = SESSION"),
    (re.compile(r"zxid: -?\d+"), "zxid: ZXID"),
    (re.compile(r"version=[0-9a-f]+"), "version=HEX"),
]
# Lines of the client itself: logging, its prompt, the state of its connection.
DROPPED = re.compile(r"^(SLF4J|JLine support|Welcome to ZooKeeper|Connecting to|\[zk: |\d{4}-\d\d-\d\d .*(INFO|WARN|DEBUG))")
EVENT = re.compile(r"^WatchedEvent ")


def run(classpath, server, commands):
    lines = []
    for i, command in enumerate(commands):
        lines += [command, f"get /mark-{i}"]
    lines.append("quit")
    java = ["java", "-Duser.timezone=UTC", "-cp", classpath, "org.apache.zookeeper.ZooKeeperMain", "-server", server, "-waitforconnection"]
    done = subprocess.run(java, input="\n".join(lines) + "\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
    return done.stdout


def sections(text, commands):
    found, events, current, i = {}, [], [], 0
    for line in text.splitlines():
        line = line.rstrip()
        if line.startswith(MARK):
            found[i] = current
            current, i = [], i + 1
            continue
        if not line or DROPPED.match(line) or line == "WATCHER::":
            continue
        for pattern, by in REPLACED:
            line = pattern.sub(by, line)
        if EVENT.match(line):
            if "type:None" not in line:
                events.append(line)
            continue
        current.append(line)
    out = []
    for n, command in enumerate(commands):
        body = found.get(n)
        if body is None:
            body = ["(the session ended before this command)"]
        if command == "whoami":
            body = sorted(body)
        out.append((command, body))
    out.append(("events", sorted(events)))
    return out


def read_expected(name):
    out = []
    with open(name, encoding="utf-8") as f:
        for line in f.read().splitlines():
            if line.startswith("> "):
                out.append((line[2:], []))
            elif line.startswith("  "):
                out[-1][1].append(line[2:])
    return out


def main():
    classpath, server, commands_file, expected_file = sys.argv[1:5]
    with open(commands_file, encoding="utf-8") as f:
        commands = [c for c in f.read().splitlines() if c and not c.startswith("#")]
    text = run(classpath, server, commands)
    if MARK not in text:
        sys.stdout.write(text[-4000:])
        print("0 passed, 1 failed")
        return 1
    got = sections(text, commands)
    if sys.argv[5:] == ["--write"]:
        with open(expected_file, "w", encoding="utf-8") as f:
            f.write("# Written by reference.sh from a real ZooKeeper; see session.py.\n")
            for command, body in got:
                f.write("> " + command + "\n")
                f.writelines("  " + line + "\n" for line in body)
        print(f"{len(got)} commands written")
        return 0
    want = read_expected(expected_file)
    passed = failed = 0
    for i, (command, body) in enumerate(got):
        expected = want[i] if i < len(want) else ("(nothing)", [])
        if (command, body) == expected:
            passed += 1
            continue
        failed += 1
        print("fail", command)
        for line in expected[1]:
            print("   want", line)
        for line in body:
            print("   got ", line)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
