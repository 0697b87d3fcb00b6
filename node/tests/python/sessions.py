"""Sessions of a real node as tokens that others verify, and sessions that slide."""

import base64
import datetime
import hashlib
import hmac
import json
import pathlib
import time
import unittest
import uuid

from single_node import NodeThatCalls, ask, until

PASSWORD = "correct horse battery staple"
KEYS = json.loads(
    (pathlib.Path(__file__).parents[2] / "src" / "signing_keys.test.json").read_text())
SECRET = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
SHARED = {"kid": "h", "alg": "HS256", "kty": "oct", "k": SECRET}
MAPPER = """local session = std.extVar('session');
{ claims: { aud: ['api'], email: session.identity.traits.email, sub: 'somebody else' } }
"""
# The prefix of a digest of SHA-256 within a signature (RFC 8017 § 9.2).
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
CONFIG = """lifespan = "60s"
sliding = "59s"
sliding_max = "63s"
[tokenizers.api]
jwks_file = "api.jwks"
ttl = "1h"
claims_mapper = "api.jsonnet"
[tokenizers.shared]
jwks_file = "shared.jwks"
"""


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def moment(text):
    return datetime.datetime.fromisoformat(text).timestamp()


class Sessions(NodeThatCalls):
    config = CONFIG
    files = {
        "api.jwks": json.dumps({"keys": [KEYS["RS256"]]}),
        "shared.jwks": json.dumps({"keys": [SHARED]}),
        "api.jsonnet": MAPPER,
    }

    def log_in(self):
        email = f"{uuid.uuid4()}@example.org"
        _, flow = ask("GET", self.public + "/self-service/registration/api")
        status, _ = ask("POST", flow["ui"]["action"], {
            "method": "password", "password": PASSWORD, "traits": {"email": email}})
        self.assertEqual(status, 200)
        _, flow = ask("GET", self.public + "/self-service/login/api")
        status, done = ask("POST", flow["ui"]["action"], {
            "method": "password", "identifier": email, "password": PASSWORD})
        self.assertEqual(status, 200, done)
        return email, done["session_token"]

    def whoami(self, token, query=""):
        headers = {"X-Session-Token": token}
        return ask("GET", f"{self.public}/sessions/whoami{query}", headers=headers)

    def token(self, token, template):
        status, session = self.whoami(token, f"?tokenize_as={template}")
        self.assertEqual(status, 200, session)
        head, claims, signature = session["tokenized"].split(".")
        signed = f"{head}.{claims}".encode()
        parts = [json.loads(decoded(part)) for part in (head, claims)]
        return *parts, signed, decoded(signature), session

    def test_a_token_of_a_session_is_verified_by_the_public_key_and_says_whose_it_is(self):
        email, token = self.log_in()
        head, claims, signed, signature, session = self.token(token, "api")
        self.assertEqual((head["alg"], head["kid"]), ("RS256", KEYS["RS256"]["kid"]))
        modulus = int.from_bytes(decoded(KEYS["RS256"]["n"]))
        exponent = int.from_bytes(decoded(KEYS["RS256"]["e"]))
        size = (modulus.bit_length() + 7) // 8
        opened = pow(int.from_bytes(signature), exponent, modulus).to_bytes(size)
        digest = DIGEST_INFO + hashlib.sha256(signed).digest()
        self.assertEqual(opened, b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest)
        self.assertEqual(claims["sub"], session["identity"]["id"], "the program cannot change it")
        self.assertEqual((claims["sid"], claims["aud"]), (session["id"], ["api"]))
        self.assertEqual((claims["email"], claims["iss"]), (email, self.public))
        # It ends with its session, although the template lets it live for longer.
        self.assertLessEqual(claims["exp"], moment(session["expires_at"]) + 1)
        self.assertNotIn("tokenized", self.whoami(token)[1])

    def test_a_shared_secret_signs_too_and_an_unknown_template_is_refused(self):
        _, token = self.log_in()
        head, _, signed, signature, _ = self.token(token, "shared")
        self.assertEqual(head["alg"], "HS256")
        expected = hmac.new(b"s" * 32, signed, hashlib.sha256).digest()
        self.assertEqual(signature, expected)
        status, refused = self.whoami(token, "?tokenize_as=nobodys")
        self.assertEqual(status, 400, refused)
        self.assertIn("nobodys", json.dumps(refused))

    def test_a_session_that_is_used_slides_up_to_its_longest_and_no_other_does(self):
        _, idle = self.log_in()
        _, used = self.log_in()
        first = moment(self.whoami(used)[1]["expires_at"])
        proved = moment(self.whoami(used)[1]["authenticated_at"])
        path = f"{self.admin}/admin/sessions?page_size=100&active=true"
        ends = {each["id"]: each["expires_at"] for each in ask("GET", path)[1]}
        seen = set()

        def slid_for_long():
            status, session = self.whoami(used)
            self.assertEqual(status, 200, session)
            seen.add(moment(session["expires_at"]))
            return time.time() > proved + 6

        until("it is used for a while", slid_for_long)
        self.assertGreater(max(seen), first + 1, "it slid")
        self.assertAlmostEqual(max(seen), proved + 63, delta=0.5)
        _, session = self.whoami(used)
        others = {each["id"]: each["expires_at"] for each in ask("GET", path)[1]}
        for name in ends.keys() - {session["id"]}:
            self.assertEqual(others[name], ends[name], "nobody used it")
        self.assertEqual(self.whoami(idle)[0], 200)


if __name__ == "__main__":
    unittest.main()
