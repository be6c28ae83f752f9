"""Starts three voters and an observer, runs a client program against them, and stops what it started.

usage: servers.py DIRECTORY SERVER_COMMAND CLIENT_COMMAND...
SERVER_COMMAND is split like a shell's words and gets the name of a zoo.cfg as its last argument; the words of
ENSEMBLE_CONFIG are further lines of it.
The client finds in ENSEMBLE the address of a port that takes orders, a line each, and answers each with a line that
begins with "ok" or "error":
  clients          ok, and N=HOST:PORT of each server
  line N ROLE      ok, and the line of the configuration that says that server N is a participant or an observer
  leader           waits until a server leads; ok, and its N
  mode N           ok, and what srvr says: leader, follower, observer, read-only, or none
  await N MODE...  waits until that is one of these
  kill N           kill -9
  freeze N, thaw N SIGSTOP, SIGCONT
  start N          starts it again; does not wait
  renew N          kill -9, and starts it with the configuration that it began with, as a new server is to be started
  heal             starts and thaws all, and waits until all serve
"""

import os
import shlex
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
from ports import free_ports

VOTERS, OBSERVERS = (1, 2, 3), (4,)
WAIT = 25.0  # for a state of a server
CLIENT_TIME_MAX = 240.0
FLAGS = (
    "-Dzookeeper.DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU="
    " -Dzookeeper.extendedTypesEnabled=true -Dreadonlymode.enabled=true"
)


class Server:
    def __init__(self, number, role, ports, directory, command):
        self.number, self.role, self.ports, self.command = number, role, ports, command
        self.directory = os.path.join(directory, str(number))
        self.config = os.path.join(self.directory, "zoo.cfg")
        self.log = os.path.join(self.directory, "log")
        self.process = None

    def line(self, role):
        peer, election, client = self.ports
        return f"server.{self.number}=127.0.0.1:{peer}:{election}:{role};127.0.0.1:{client}"

    def write(self, all_lines):
        self.all_lines = all_lines
        os.makedirs(os.path.join(self.directory, "data"), exist_ok=True)
        with open(os.path.join(self.directory, "data", "myid"), "w") as f:
            f.write(f"{self.number}\n")
        lines = [
            "tickTime=500", "initLimit=20", "syncLimit=6", f"dataDir={self.directory}/data", "admin.enableServer=false",
            "4lw.commands.whitelist=*", "reconfigEnabled=true", "standaloneEnabled=false", "maxClientCnxns=0",
        ]
        if self.role == "observer":
            lines.append("peerType=observer")
        lines += [line for line in os.environ.get("ENSEMBLE_CONFIG", "").split() if line]
        with open(self.config, "w") as f:
            f.write("\n".join(lines + all_lines) + "\n")

    def start(self):
        if self.process and self.process.poll() is None:
            return
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                shlex.split(self.command) + [self.config], stdout=log, stderr=log, cwd=self.directory,
                env=dict(os.environ, SERVER_JVMFLAGS=FLAGS),
            )

    def signal(self, number):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def renew(self):
        self.kill()
        self.write(self.all_lines)  # ZooKeeper has written the configuration down that this server was removed from
        self.start()

    def mode(self):
        try:
            with socket.create_connection(("127.0.0.1", self.ports[2]), 1) as s:
                s.settimeout(1)
                s.sendall(b"srvr")
                s.shutdown(socket.SHUT_WR)
                text = s.makefile("rb").read().decode()
        except OSError:
            return "none"
        for line in text.splitlines():
            if line.startswith("Mode: "):
                return line[len("Mode: "):]
        return "none"


class Servers:
    def __init__(self, directory, command):
        ports = free_ports(3 * len(VOTERS + OBSERVERS))
        self.all = {}
        for number in VOTERS + OBSERVERS:
            role = "observer" if number in OBSERVERS else "participant"
            mine, ports = ports[:3], ports[3:]
            self.all[number] = Server(number, role, mine, directory, command)
        for server in self.all.values():
            server.write([s.line(s.role) for s in self.all.values()])

    def until(self, what, true):
        deadline = time.monotonic() + WAIT
        while True:
            got = true()
            if got:
                return got
            if time.monotonic() > deadline:
                modes = {n: s.mode() for n, s in self.all.items()}
                raise TimeoutError(f"{what}: not in {WAIT:.0f} s; now they are {modes}")
            time.sleep(0.02)

    def leading(self):
        return [n for n, s in self.all.items() if s.mode() == "leader"]

    def heal(self):
        for s in self.all.values():
            s.signal(signal.SIGCONT)
            s.start()
        for s in self.all.values():
            self.until(f"server {s.number} serves", lambda s=s: s.mode() in ("leader", "follower", "observer"))
        self.until("one leads", self.leading)

    def order(self, words):
        verb = words[0]
        if verb == "clients":
            return " ".join(f"{n}=127.0.0.1:{s.ports[2]}" for n, s in self.all.items())
        if verb == "leader":
            return str(self.until("one leads", self.leading)[0])
        if verb == "heal":
            self.heal()
            return ""
        server = self.all[int(words[1])]
        if verb == "line":
            return server.line(words[2])
        if verb == "mode":
            return server.mode()
        if verb == "await":
            return self.until(f"server {server.number} is {words[2:]}", lambda: (m := server.mode()) in words[2:] and m)
        {
            "kill": server.kill,
            "start": server.start,
            "renew": server.renew,
            "freeze": lambda: server.signal(signal.SIGSTOP),
            "thaw": lambda: server.signal(signal.SIGCONT),
        }[verb]()
        return ""

    def kill_all(self):
        for s in self.all.values():
            s.kill()


def listen(servers):
    class Orders(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                try:
                    answer = "ok " + servers.order(line.decode().split())
                except Exception as e:  # the client is told, and its check fails
                    answer = f"error {type(e).__name__}: {e}"
                self.wfile.write((answer.strip() + "\n").encode())

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    listener = Listener(("127.0.0.1", 0), Orders)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    return "127.0.0.1:%d" % listener.server_address[1]


def main():
    directory, command, client = sys.argv[1], sys.argv[2], sys.argv[3:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers, running, status = Servers(directory, command), None, 1
    try:
        servers.heal()
        running = subprocess.Popen(client, env=dict(os.environ, ENSEMBLE=listen(servers)))
        status = running.wait(CLIENT_TIME_MAX)
    except (subprocess.TimeoutExpired, TimeoutError) as e:
        print(f"FAIL {e}", flush=True)
    finally:
        if running and running.poll() is None:
            running.kill()
            running.wait()
        servers.kill_all()
        if status:
            for s in servers.all.values():
                print(f"--- the last of server {s.number}'s log")
                if os.path.exists(s.log):
                    with open(s.log, errors="replace") as f:
                        print("".join(f.readlines()[-12:]), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
