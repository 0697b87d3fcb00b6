"""One node with a configuration of its own, for as long as a test lasts, and a server that
it calls."""

import http.server
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

CONFIG = """
[node]
region = "eu-central"
data_dir = "data"
[cluster]
listen = "127.0.0.1:{cluster}"
tls = "off"
[public]
listen = "127.0.0.1:{public}"
[admin]
listen = "127.0.0.1:{admin}"
[secrets]
master_key_file = "master"
[sessions]
cookie_secure = false
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def until(what, holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def ask(method, url, body=None, headers=None):
    """The status and the JSON of an answer; (0, None) if there is none."""
    request = urllib.request.Request(
        url, method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Accept": "application/json",
                 **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")
    except OSError:
        return 0, None


class SingleNode:
    """`config` is added to what every node needs, which ends in the section of sessions;
    `files` lie beside it."""

    def __init__(self, binary, config, files=None, **places):
        self.binary = binary
        self.folder = tempfile.TemporaryDirectory(prefix="cardea-node-")
        folder = pathlib.Path(self.folder.name)
        cluster, public, admin = free_ports(3)
        self.public, self.admin = f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}"
        text = (CONFIG + config).format(cluster=cluster, public=public, admin=admin, **places)
        (folder / "cardea.toml").write_text(text)
        for name, text in {"master": "5e" * 32, **(files or {})}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        # The tester's own variables are no settings of a node, which would refuse them.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("CARDEA_")}
        self.process = subprocess.Popen(
            [binary, "start", "--config", folder / "cardea.toml"], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until("the node is made", lambda: self.run("init").returncode == 0)
            until("the node is ready", lambda: ask("GET", self.public + "/health/ready")[0] == 200)
        except BaseException:
            self.stop()
            raise

    def run(self, *arguments):
        return subprocess.run([self.binary, "--admin-url", self.admin, *arguments],
                              env=self.environment, capture_output=True)

    def file(self, name):
        return pathlib.Path(self.folder.name) / name

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.folder.cleanup()


class Called(http.server.BaseHTTPRequestHandler):
    """What a node calls; says in `do_POST` what it answers."""

    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class NodeThatCalls(unittest.TestCase):
    """Tests of a node with `config`, where `{called}` is the port of a server of `handler`."""

    config, files, handler = "", {}, Called

    @classmethod
    def setUpClass(cls):
        binary = os.environ.get("CARDEA_BINARY")
        if not binary:
            raise unittest.SkipTest("CARDEA_BINARY names the node that is tried")
        cls.called = http.server.ThreadingHTTPServer(("127.0.0.1", 0), cls.handler)
        threading.Thread(target=cls.called.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.called.server_close)
        cls.addClassCleanup(cls.called.shutdown)
        cls.node = SingleNode(binary, cls.config, cls.files, called=cls.called.server_port)
        cls.addClassCleanup(cls.node.stop)
        cls.public, cls.admin = cls.node.public, cls.node.admin
