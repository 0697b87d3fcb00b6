"""Web hooks of a real node: one that decides and changes, and one that nobody waits for."""

import base64
import hashlib
import hmac
import json
import unittest
import uuid

from single_node import Called, NodeThatCalls, ask, until

PASSWORD = "correct horse battery staple"
KEY = b"a key of twenty-four bytes or more"
CONFIG = """
[outbound]
plain_http = true
allowed_ranges = ["127.0.0.1"]
[[hooks]]
flow = "registration"
hook = "web_hook"
id = "gate"
url = "http://127.0.0.1:{called}/gate"
response = "parse"
can_interrupt = true
[[hooks]]
flow = "registration"
hook = "web_hook"
id = "crm"
url = "http://127.0.0.1:{called}/crm"
response = "ignore"
signing_key_file = "signing"
"""


class Receiver(Called):
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


class Hooks(NodeThatCalls):
    config, files, handler = CONFIG, {"signing": KEY.decode()}, Receiver

    def register(self, email):
        _, flow = ask("GET", self.public + "/self-service/registration/api")
        return ask("POST", flow["ui"]["action"], {
            "method": "password", "password": PASSWORD, "traits": {"email": email},
            "transient_payload": {"campaign": "spring"}})

    def test_a_hook_refuses_and_nothing_is_written(self):
        email = f"evil-{uuid.uuid4().hex[:8]}@example.org"
        status, flow = self.register(email)
        self.assertEqual(status, 400, flow)
        node = next(n for n in flow["ui"]["nodes"] if n["attributes"]["name"] == "traits.email")
        self.assertEqual([m["text"] for m in node["messages"]], ["Not you."])
        found = ask("GET", f"{self.admin}/admin/identities?credentials_identifier={email}")
        self.assertEqual(found, (200, []))
        # Were anybody told of it, it would be before this one.
        later = f"bob-{uuid.uuid4().hex[:8]}@example.org"
        self.assertEqual(self.register(later)[0], 200)

        def told(of):
            return [c for c in Receiver.calls if c[0] == "/crm" and of.encode() in c[2]]
        until("somebody is told of who signed up later", lambda: told(later), 30)
        self.assertFalse(told(email))

    def test_a_hook_changes_what_is_written_and_another_is_told_of_it(self):
        email = f"ann-{uuid.uuid4().hex[:8]}@example.org"
        status, done = self.register(email)
        self.assertEqual(status, 200, done)
        self.assertEqual(done["identity"]["metadata_public"], {"plan": "free"})

        def told():
            return [c for c in Receiver.calls if c[0] == "/crm" and email.encode() in c[2]]
        until("the call comes again", lambda: len(told()) >= 2, 30)
        first, second = ({k.lower(): v for k, v in call[1].items()} for call in told()[:2])
        self.assertEqual(first["webhook-id"], second["webhook-id"])
        for headers, (_, _, body) in zip((first, second), told()):
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            expected = "v1," + base64.b64encode(
                hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
            self.assertIn(expected, headers["webhook-signature"].split(" "))
            self.assertEqual(json.loads(body)["transient_payload"], {"campaign": "spring"})

        def answered():
            calls = ask("GET", self.admin + "/admin/hooks/calls?status=answered&hook=crm")
            return calls[0] == 200 and len(calls[1]) >= 1
        until("the call is known as answered", answered, 30)


if __name__ == "__main__":
    unittest.main()
