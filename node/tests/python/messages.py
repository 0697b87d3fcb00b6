"""Text messages of a real node, by an HTTP gateway: codes that come by SMS."""

import http.cookiejar
import json
import random
import re
import unittest
import urllib.parse
import urllib.request

from single_node import Called, NodeThatCalls, ask, until

# What Twilio asks for: a form.
BODY = """
function(ctx) {
  To: ctx.recipient,
  From: "+15005550006",
  Body: ctx.body,
  Code: ctx.template_data[std.strReplace(ctx.template_type, "_valid", "")],
}
"""
CONFIG = """
[flows]
code_login = true
recovery = true
[factors]
code = true
[messages]
max_per_address = 3
[outbound]
plain_http = true
allowed_ranges = ["127.0.0.1"]
[[courier.channels]]
id = "sms"
type = "http"
url = "http://127.0.0.1:{called}/send"
body = "sms.jsonnet"
basic_user = "account"
basic_password_file = "gateway-password"
headers = {{ Content-Type = "application/x-www-form-urlencoded" }}
"""
PHONE = {"type": "string", "format": "tel", "title": "Phone", "ory.sh/kratos": {
    "credentials": {"code": {"identifier": True, "via": "sms"}, "password": {"identifier": True}},
    "verification": {"via": "sms"}, "recovery": {"via": "sms"}}}
SCHEMA = {"$id": "https://example.org/customer.schema.json", "type": "object", "properties": {
    "traits": {"type": "object", "properties": {"phone": PHONE}, "required": ["phone"]}}}


class Gateway(Called):
    """Refuses the first try of each message, and numbers that end in 13 for good."""

    sent = []
    refused_first = set()

    def do_POST(self):
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(urllib.parse.parse_qsl(form, strict_parsing=True))
        key = self.headers["Idempotency-Key"]
        self.sent.append((key, self.headers["Authorization"], fields))
        if fields["To"].endswith("13"):
            return self.answer(400, {"message": f"cannot send to {fields['To']}"})
        first = key not in self.refused_first
        self.refused_first.add(key)
        return self.answer(503 if first else 201, {})


def a_number(end=None, used=set()):
    """A number of the range that Germany keeps for films and tests, another each time."""
    end = end or random.choice([f"{at}" for at in range(20, 70) if at not in used])
    used.add(int(end))
    return "+4917139200" + end


class Browser:
    """Follows redirects and keeps cookies; knows the form of the page that it is on."""

    def __init__(self, url):
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies)
        self.go(url)

    def go(self, url, fields=None):
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(url, data=data, headers={"Accept": "text/html"})
        with self.opener.open(request, timeout=30) as answer:
            self.url, self.page = answer.geturl(), answer.read().decode()

    def value(self, name):
        return re.search(f'name="{name}"[^>]*? value="([^"]*)"', self.page).group(1)

    def submit(self, **fields):
        action = re.search('<form[^>]* action="([^"]+)"', self.page).group(1)
        self.go(action.replace("&amp;", "&"), {"csrf_token": self.value("csrf_token"), **fields})


class Messages(NodeThatCalls):
    config, handler = CONFIG, Gateway
    files = {"sms.jsonnet": BODY, "gateway-password": "sesame",
             "customer.json": json.dumps(SCHEMA)}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        put = cls.node.run("schema", "put", "customer", cls.node.file("customer.json"), "--default")
        assert put.returncode == 0, put

    def sent_to(self, number):
        return [message for message in Gateway.sent if message[2]["To"] == number]

    def code(self, number, template):
        """The code that came, and all that was sent."""
        def taken():
            query = f"?recipient={number.replace('+', '%2B')}&status=sent"
            status, found = ask("GET", self.admin + "/admin/courier/messages" + query)
            return status == 200 and [m for m in found if m["template_type"] == template]
        until("the gateway has the message", taken, 30)
        return self.sent_to(number)[-1][2]["Code"]

    def sign_up(self, number):
        _, flow = ask("GET", self.public + "/self-service/registration/api")
        body = {"method": "code", "traits": {"phone": number}}
        status, flow = ask("POST", flow["ui"]["action"], body)
        self.assertEqual((status, flow["state"]), (400, "sent_email"), flow)
        code = self.code(number, "registration_code_valid")
        status, done = ask("POST", flow["ui"]["action"], {**body, "code": code})
        self.assertEqual(status, 200, done)
        return done["identity"], {"X-Session-Token": done["session_token"]}

    def test_a_code_by_sms_signs_up_and_logs_in(self):
        number = a_number()
        identity, _ = self.sign_up(number)
        address = identity["verifiable_addresses"][0]
        self.assertEqual((address["via"], address["value"], address["verified"]),
                         ("sms", number, True))
        first, second = self.sent_to(number)
        self.assertEqual(first[0], second[0], "both tries bear one key")
        self.assertEqual(first[1], "Basic YWNjb3VudDpzZXNhbWU=")
        self.assertRegex(first[2]["Body"], r"(?s)\d{6}.*\n@127\.0\.0\.1 #\d{6}$")

        _, flow = ask("GET", self.public + "/self-service/login/api")
        # However it is typed, it is the same number.
        typed = re.sub(r"(\+49)(\d{3})", r"\1 (\2) ", number)
        status, flow = ask("POST", flow["ui"]["action"], {"method": "code", "identifier": typed})
        self.assertEqual((status, flow["state"]), (400, "sent_email"), flow)
        code = self.code(number, "login_code_valid")
        status, wrong = ask("POST", flow["ui"]["action"],
                            {"method": "code", "identifier": typed, "code": "1234567"})
        self.assertEqual((status, wrong["ui"]["messages"][0]["id"]), (400, 4010008))
        status, done = ask("POST", flow["ui"]["action"],
                           {"method": "code", "identifier": typed, "code": code})
        self.assertEqual(status, 200, done)
        status, me = ask("GET", self.public + "/sessions/whoami",
                         headers={"X-Session-Token": done["session_token"]})
        self.assertEqual((status, me["identity"]["id"]), (200, identity["id"]))
        self.assertEqual(me["authentication_methods"][0]["method"], "code")

    def test_a_number_recovers_its_account(self):
        number = a_number()
        identity, _ = self.sign_up(number)
        _, flow = ask("GET", self.public + "/self-service/recovery/api")
        field = next(n for n in flow["ui"]["nodes"] if n["attributes"]["name"] == "email")
        self.assertEqual((field["attributes"]["type"], field["meta"]["label"]["id"]),
                         ("tel", 1070017))
        status, flow = ask("POST", flow["ui"]["action"], {"method": "code", "email": number})
        self.assertEqual((status, flow["ui"]["messages"][0]["id"]), (200, 1060004), flow)
        code = self.code(number, "recovery_code_valid")
        status, done = ask("POST", flow["ui"]["action"], {"method": "code", "code": code})
        self.assertEqual((status, done["state"]), (200, "passed_challenge"), done)
        token = next(c["ory_session_token"] for c in done["continue_with"]
                     if c["action"] == "set_ory_session_token")
        _, me = ask("GET", self.public + "/sessions/whoami", headers={"X-Session-Token": token})
        self.assertEqual(me["identity"]["id"], identity["id"])

    def test_a_code_by_sms_is_a_second_factor_beside_a_password(self):
        number, password = a_number(), "correct horse battery staple"
        _, me = self.sign_up(number)
        login = self.public + "/self-service/login/api"
        # Who signed up by the number has shown it, and shows nothing more by it.
        self.assertEqual(ask("GET", login + "?aal=aal2", headers=me)[0], 400)
        _, flow = ask("GET", self.public + "/self-service/settings/api", headers=me)
        status, done = ask("POST", flow["ui"]["action"],
                           {"method": "password", "password": password}, me)
        self.assertEqual(status, 200, done)
        _, flow = ask("GET", login)
        status, done = ask("POST", flow["ui"]["action"], {
            "method": "password", "identifier": number, "password": password})
        self.assertEqual(status, 200, done)
        me = {"X-Session-Token": done["session_token"]}
        status, refused = ask("GET", self.public + "/sessions/whoami", headers=me)
        self.assertEqual((status, refused["error"]["id"]), (403, "session_aal2_required"))
        _, flow = ask("GET", login + "?aal=aal2", headers=me)
        button = next(n for n in flow["ui"]["nodes"] if n["attributes"]["name"] == "address")
        self.assertEqual((button["group"], button["meta"]["label"]["id"]), ("code", 1010023))
        self.assertNotIn(number, json.dumps(flow["ui"]))
        status, flow = ask("POST", flow["ui"]["action"],
                           {"method": "code", "address": button["attributes"]["value"]}, me)
        self.assertEqual((status, flow["state"]), (400, "sent_email"), flow)
        code = self.code(number, "login_code_valid")
        status, done = ask("POST", flow["ui"]["action"], {"method": "code", "code": code}, me)
        self.assertEqual(status, 200, done)
        status, me = ask("GET", self.public + "/sessions/whoami", headers=me)
        self.assertEqual((status, me["authenticator_assurance_level"]), (200, "aal2"))

    def test_the_included_pages_ask_for_a_second_factor_by_sms(self):
        number, password = a_number(), "correct horse battery staple"
        _, me = self.sign_up(number)
        _, flow = ask("GET", self.public + "/self-service/settings/api", headers=me)
        ask("POST", flow["ui"]["action"], {"method": "password", "password": password}, me)
        browser = Browser(self.public + "/self-service/login/browser")
        browser.submit(method="password", identifier=number, password=password)
        self.assertIn("Confirm that it is you", browser.page)
        self.assertNotIn(number, browser.page)
        browser.submit(address=browser.value("address"))
        self.assertIn("Enter the code of six digits that was sent to", browser.page)
        code = self.code(number, "login_code_valid")
        browser.submit(method="code", code=code)
        self.assertIn("You are signed in", browser.page)

    def test_one_number_gets_no_more_than_its_share(self):
        statuses = []
        for number in (a_number(), a_number("77")):
            for _ in range(4):
                _, flow = ask("GET", self.public + "/self-service/recovery/api")
                statuses.append(ask("POST", flow["ui"]["action"],
                                    {"method": "code", "email": number})[0])
        self.assertEqual(statuses, [200, 200, 200, 429] * 2)

    def test_a_number_that_the_gateway_refuses_is_given_up_at_once(self):
        number = a_number("13")
        _, flow = ask("GET", self.public + "/self-service/registration/api")
        ask("POST", flow["ui"]["action"], {"method": "code", "traits": {"phone": number}})

        def given_up():
            query = f"?recipient={number.replace('+', '%2B')}&status=abandoned"
            return ask("GET", self.admin + "/admin/courier/messages" + query)[1]
        until("it is given up", given_up, 30)
        message = given_up()[0]
        self.assertEqual((message["type"], message["send_count"], message["body"]), ("sms", 1, ""))
        _, shown = ask("GET", f"{self.admin}/admin/courier/messages/{message['id']}")
        why = shown["dispatches"][0]["error"]["message"]
        self.assertIn("status 400", why)
        self.assertNotIn(number[3:], why, "what may be a number is not kept")
        self.assertEqual(len(self.sent_to(number)), 1)

    def test_a_number_that_is_none_is_told_at_its_field(self):
        for number in ("030 901820", "+49", "+999123456789", "+49x30901820"):
            _, flow = ask("GET", self.public + "/self-service/registration/api")
            status, flow = ask("POST", flow["ui"]["action"],
                               {"method": "code", "traits": {"phone": number}})
            node = next(n for n in flow["ui"]["nodes"]
                        if n["attributes"]["name"] == "traits.phone")
            self.assertEqual((status, [m["id"] for m in node["messages"]]), (400, [4000041]),
                             number)


if __name__ == "__main__":
    unittest.main()
