"""Web hooks of a real node: one that decides and changes, and one that nobody waits for."""

import base64
import hashlib
import hmac
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
import uuid

PASSWORD = "correct horse battery staple"
KEY = b"a key of twenty-four bytes or more"
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
[sessions]
cookie_secure = false
[secrets]
master_key_file = "master"
[outbound]
plain_http = true
allowed_ranges = ["127.0.0.1"]
[[hooks]]
flow = "registration"
hook = "web_hook"
id = "gate"
url = "http://127.0.0.1:{receiver}/gate"
response = "parse"
can_interrupt = true
[[hooks]]
flow = "registration"
hook = "web_hook"
id = "crm"
url = "http://127.0.0.1:{receiver}/crm"
response = "ignore"
signing_key_file = "signing"
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Receiver(http.server.BaseHTTPRequestHandler):
    calls = []
    refused_first = set()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.calls.append((self.path, dict(self.headers.items()), body))
        told = json.loads(body)
        if self.path == "/crm":
            # The first try of each call is refused: it is to come again.
            call = self.headers["webhook-id"]
            first = call not in self.refused_first
            self.refused_first.add(call)
            return self.answer(503 if first else 204)
        if "evil" in json.dumps(told):
            return self.answer(403, {"messages": [{
                "instance_ptr": "#/traits/email",
                "messages": [{"id": 1234, "text": "Not you.", "type": "error"}]}]})
        return self.answer(200, {"identity": {"metadata_public": {"plan": "free"}}})

    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Hooks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        binary = os.environ.get("CARDEA_BINARY")
        if not binary:
            raise unittest.SkipTest("CARDEA_BINARY names the node that is tried")
        cls.receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=cls.receiver.serve_forever, daemon=True).start()
        cls.folder = tempfile.TemporaryDirectory(prefix="cardea-hooks-")
        folder = pathlib.Path(cls.folder.name)
        cluster, public, admin = free_ports(3)
        cls.public, cls.admin = f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}"
        (folder / "cardea.toml").write_text(CONFIG.format(
            cluster=cluster, public=public, admin=admin, receiver=cls.receiver.server_port))
        for name, text in (("master", "5e" * 32), ("signing", KEY.decode())):
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CARDEA_")}
        cls.node = subprocess.Popen(
            [binary, "start", "--config", folder / "cardea.toml"], env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.until("the node is made", lambda: subprocess.run(
            [binary, "--admin-url", cls.admin, "init"], env=environment,
            capture_output=True).returncode == 0)
        cls.until("the node is ready", lambda: cls.ask("GET", cls.public + "/health/ready")[0] == 200)

    @classmethod
    def tearDownClass(cls):
        cls.node.terminate()
        cls.node.wait(timeout=30)
        cls.receiver.shutdown()
        cls.receiver.server_close()
        cls.folder.cleanup()

    @staticmethod
    def until(what, holds, seconds=60):
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not within {seconds} s")
            time.sleep(0.1)

    @staticmethod
    def ask(method, url, body=None):
        request = urllib.request.Request(
            url, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return 0, None

    def register(self, email):
        _, flow = self.ask("GET", self.public + "/self-service/registration/api")
        return self.ask("POST", flow["ui"]["action"], {
            "method": "password", "password": PASSWORD, "traits": {"email": email},
            "transient_payload": {"campaign": "spring"}})

    def test_a_hook_refuses_and_nothing_is_written(self):
        email = f"evil-{uuid.uuid4().hex[:8]}@example.org"
        status, flow = self.register(email)
        self.assertEqual(status, 400, flow)
        node = next(n for n in flow["ui"]["nodes"] if n["attributes"]["name"] == "traits.email")
        self.assertEqual([m["text"] for m in node["messages"]], ["Not you."])
        found = self.ask("GET", f"{self.admin}/admin/identities?credentials_identifier={email}")
        self.assertEqual(found, (200, []))
        self.assertFalse([c for c in Receiver.calls if c[0] == "/crm" and email.encode() in c[2]])

    def test_a_hook_changes_what_is_written_and_another_is_told_of_it(self):
        email = f"ann-{uuid.uuid4().hex[:8]}@example.org"
        status, done = self.register(email)
        self.assertEqual(status, 200, done)
        self.assertEqual(done["identity"]["metadata_public"], {"plan": "free"})

        def told():
            return [c for c in Receiver.calls if c[0] == "/crm" and email.encode() in c[2]]
        self.until("the call comes again", lambda: len(told()) >= 2, 30)
        first, second = ({k.lower(): v for k, v in call[1].items()} for call in told()[:2])
        self.assertEqual(first["webhook-id"], second["webhook-id"])
        for headers, (_, _, body) in zip((first, second), told()):
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            expected = "v1," + base64.b64encode(
                hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
            self.assertIn(expected, headers["webhook-signature"].split(" "))
            self.assertEqual(json.loads(body)["transient_payload"], {"campaign": "spring"})

        def answered():
            calls = self.ask("GET", self.admin + "/admin/hooks/calls?status=answered&hook=crm")
            return calls[0] == 200 and len(calls[1]) >= 1
        self.until("the call is known as answered", answered, 30)


if __name__ == "__main__":
    unittest.main()
