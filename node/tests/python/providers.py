"""What needs a provider, judged by Ory's specification: one that is tried, and one that browsers
ask themselves (FedCM). The provider is in this process, and signs with a key of its own."""

import base64
import hashlib
import json
import pathlib
import time
import unittest
import urllib.parse
import uuid

import urllib3

from single_node import Called, NodeThatCalls
from specification import Caller, Specification

SPECIFICATION = Specification("kratos")
KEY = json.loads(
    (pathlib.Path(__file__).parents[2] / "src" / "signing_keys.test.json").read_text())["RS256"]
# The prefix of a digest of SHA-256 within a signature (RFC 8017 § 9.2).
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
MAPPER = """local claims = std.extVar('claims');
{ identity: { traits: { [if 'email' in claims then 'email']: claims.email } } }
"""
CONFIG = """
[outbound]
plain_http = true
allowed_ranges = ["127.0.0.1"]
[oidc.idp]
issuer_url = "http://127.0.0.1:{called}"
client_id = "cardea"
fedcm_config_url = "http://127.0.0.1:{called}/fedcm.json"
mapper = "idp.jsonnet"
"""
TRIED = "ory_kratos_test_flow"
SESSION = "ory_kratos_session"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(name):
    return int.from_bytes(base64.urlsafe_b64decode(KEY[name] + "=="), "big")


def signed(claims):
    head = {"alg": "RS256", "kid": "k"}
    message = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    length = (number("n").bit_length() + 7) // 8
    digest = DIGEST_INFO + hashlib.sha256(message.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (length - len(digest) - 3) + b"\x00" + digest
    signature = pow(int.from_bytes(padded, "big"), number("d"), number("n"))
    return f"{message}.{encoded(signature.to_bytes(length, 'big'))}"


class Provider(Called):
    # What its next ID token says of somebody who comes by its own page.
    claims = {}

    def do_GET(self):
        here = f"http://127.0.0.1:{self.server.server_port}"
        if self.path == "/jwks":
            public = {name: KEY[name] for name in ("kty", "n", "e")}
            return self.answer(200, {"keys": [{**public, "kid": "k", "use": "sig"}]})
        return self.answer(200, {
            "issuer": here, "authorization_endpoint": here + "/auth",
            "token_endpoint": here + "/token", "jwks_uri": here + "/jwks"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {"access_token": "hunter2", "id_token": signed(self.claims)})


def value(flow, name):
    return next(n["attributes"]["value"] for n in flow["ui"]["nodes"]
                if n["attributes"].get("name") == name)


class Providers(NodeThatCalls):
    config, files, handler = CONFIG, {"idp.jsonnet": MAPPER}, Provider

    def setUp(self):
        self.call = Caller(SPECIFICATION, [self.public], [self.admin])
        self.addCleanup(self.call.close)

    def says(self, nonce, /, **more):
        issuer = f"http://127.0.0.1:{self.called.server_port}"
        now = int(time.time())
        said = {"iss": issuer, "aud": "cardea", "sub": uuid.uuid4().hex, "nonce": nonce,
                "iat": now, "exp": now + 300, "email": f"{uuid.uuid4().hex}@example.org"}
        return {name: one for name, one in {**said, **more}.items() if one is not None}

    def back(self, away, cookies):
        """Comes back from where a flow leads; gives the cookies of the answer, and its place."""
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(away).query)
        Provider.claims = self.says(asked["nonce"][0])
        query = urllib.parse.urlencode({"code": "c", "state": asked["state"][0]})
        answer = self.call.http.request(
            "GET", f"{self.public}/self-service/methods/oidc/callback/idp?{query}",
            headers={"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}, redirect=False)
        self.assertEqual(answer.status, 303, answer.data)
        set_here = [line.split(";", 1)[0].partition("=")
                    for line in answer.headers.getlist("Set-Cookie")]
        return {name: one for name, _, one in set_here}, answer.headers["Location"]

    def test_provider_that_is_tried(self):
        for body, status in (({"provider_id": "none"}, 404), ({"provider_id": "x" * 256}, 400),
                             ({}, 400)):
            self.call("createTestLoginFlow", body=body, status=status)
        flow = self.call("createTestLoginFlow", body={"provider_id": "idp"}, status=201).body
        here = {"id": flow["id"]}
        self.assertEqual(flow["test_context"], {"provider_id": "idp"})
        body = {"method": "oidc", "provider": "idp", "csrf_token": value(flow, "csrf_token")}
        away = self.call("updateLoginFlow", query={"flow": flow["id"]}, body=body, status=422)
        cookies, place = self.back(away.body["redirect_browser_to"], away.cookies)
        self.assertIn(flow["id"], place)
        self.assertNotIn(SESSION, cookies)
        tried = {TRIED: cookies[TRIED]}
        self.call("getLoginFlow", query=here, status=403)
        told = self.call("getLoginFlow", query=here, cookies=tried, status=200).body
        payload = told["test_context"]["debug_payload"]
        self.assertEqual(payload["id_token_claims"]["sub"], Provider.claims["sub"])
        traits = {"email": Provider.claims["email"]}
        self.assertEqual(payload["jsonnet_output"], {"identity": {"traits": traits}})
        self.assertNotIn("error", payload)
        self.assertNotIn("hunter2", json.dumps(told))
        found = self.call("listIdentities", status=200,
                          query={"credentials_identifier": Provider.claims["email"]})
        self.assertEqual(found.body, [])
        self.call("deleteTestLoginFlow", query=here, status=403)
        self.call("deleteTestLoginFlow", query=here, cookies=tried, status=204)
        self.call("deleteTestLoginFlow", query=here, cookies=tried, status=404)
        self.call("deleteTestLoginFlow", query={"id": "x"}, status=400)
        # One that nobody went through is forgotten by whoever knows it; a login is not.
        flow = self.call("createTestLoginFlow", body={"provider_id": "idp"}, status=201).body
        self.call("getLoginFlow", query={"id": flow["id"]}, status=200)
        self.call("deleteTestLoginFlow", query={"id": flow["id"]}, status=204)
        login = self.call("createNativeLoginFlow", status=200).body
        self.call("deleteTestLoginFlow", query={"id": login["id"]}, status=404)

    def asked(self):
        """A browser's cookies, its anti-forgery token and its nonce."""
        told = self.call("createFedcmFlow", status=200)
        provider = told.body["providers"][0]
        self.assertEqual(provider["client_id"], "cardea")
        self.assertEqual(provider["parameters"]["nonce"], provider["nonce"])
        return told.cookies, told.body["csrf_token"], provider["nonce"]

    def test_browser_that_asks_the_provider_itself(self):
        cookies, csrf_token, nonce = self.asked()
        claims = self.says(nonce)
        body = {"csrf_token": csrf_token, "token": signed(claims), "nonce": nonce}
        self.call("updateFedcmFlow", body=body, status=403)
        self.call("updateFedcmFlow", body={"csrf_token": csrf_token}, cookies=cookies,
                  status=400)
        for more in ({"aud": "others"}, {"iss": "https://evil.example"}, {"nonce": None},
                     {"exp": 1}):
            wrong = {**body, "token": signed(self.says(nonce, **more))}
            self.call("updateFedcmFlow", body=wrong, cookies=cookies, status=400)
        others, their_token, _ = self.asked()
        planted = {"csrf_token": their_token, "token": body["token"]}
        self.call("updateFedcmFlow", body=planted, cookies=others, status=403)
        done = self.call("updateFedcmFlow", body=body, cookies=cookies, status=200)
        self.assertNotIn("session_token", done.body)
        self.call("toSession", cookies={SESSION: done.cookies[SESSION]}, status=200)
        # Who is known logs in; a form is led on.
        cookies, csrf_token, nonce = self.asked()
        sent = urllib.parse.urlencode({
            "csrf_token": csrf_token,
            "token": signed({**self.says(nonce), "sub": claims["sub"]})})
        page = self.call.http.request(
            "POST", self.public + "/self-service/fed-cm/token", body=sent, redirect=False,
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html",
                     "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())})
        self.assertEqual(page.status, 303, page.data)
        self.assertTrue(page.headers["Location"].endswith("/ui/welcome"))
        # What is missing is asked for elsewhere, and the nonce is spent.
        cookies, csrf_token, nonce = self.asked()
        body = {"csrf_token": csrf_token, "token": signed(self.says(nonce, email=None))}
        self.call("updateFedcmFlow", body=body, cookies=cookies, status=422)
        self.call("updateFedcmFlow", body=body, cookies=cookies, status=410)


if __name__ == "__main__":
    unittest.main()
