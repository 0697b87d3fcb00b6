"""Every operation of Ory Kratos, each answer judged by Ory's specification.

Calls go to the three nodes in turn, so that every flow changes nodes on the way.
"""

import re
import unittest
import uuid

from cluster import Cluster
from specification import Caller, Specification

CLUSTER = Cluster()
SPECIFICATION = Specification("kratos")
PASSWORD = "correct horse battery staple"
SEED = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
# What succeeds with a provider alone: in `providers.py`, and in `scripts/social`.
WITH_PROVIDERS = {
    "createTestLoginFlow", "deleteTestLoginFlow", "updateFedcmFlow", "exchangeSessionToken",
}
FLOWS = ("Login", "Registration", "Recovery", "Verification", "Settings")


def setUpModule():
    CLUSTER.start()


def tearDownModule():
    CLUSTER.stop()


def address():
    return f"person-{uuid.uuid4().hex[:12]}@example.org"


def value(flow, name):
    """What the node `name` of a flow's form holds."""
    return next(n["attributes"]["value"] for n in flow["ui"]["nodes"]
                if n["attributes"].get("name") == name)


class EveryOperation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.call = Caller(SPECIFICATION, CLUSTER.public, CLUSTER.admin)

    @classmethod
    def tearDownClass(cls):
        cls.call.close()

    def create(self, **more):
        body = {"schema_id": "default", "traits": {"email": address()},
                "credentials": {"password": {"config": {"password": PASSWORD}}}, **more}
        return self.call("createIdentity", body=body, status=201).body

    def log_in(self, email, status=200, password=PASSWORD):
        flow = self.call("createNativeLoginFlow", status=200).body
        return self.call("updateLoginFlow", query={"flow": flow["id"]}, status=status, body={
            "method": "password", "identifier": email, "password": password}).body

    def code_for(self, email):
        query = {"recipient": email, "status": "queued"}
        messages = self.call("listCourierMessages", query=query, status=200).body
        return re.search(r"\d{6}", messages[0]["subject"]).group(0)

    def test_identities(self):
        external = f"crm-{uuid.uuid4().hex}"
        made = self.create(external_id=external, metadata_admin={"note": "x"})
        here = {"id": made["id"]}
        self.call("getIdentity", path=here, query={"include_credential": "password"}, status=200)
        self.call("getIdentityByExternalID", path={"externalID": external}, status=200)
        self.call("listIdentities", query={"page_size": 5}, status=200)
        self.call("updateIdentity", path=here, status=200, body={
            "schema_id": "default", "state": "active", "traits": made["traits"]})
        self.call("patchIdentity", path=here, status=200, body=[
            {"op": "add", "path": "/metadata_public", "value": {"plan": "free"}}])
        patch = {"patch_id": str(uuid.uuid4()),
                 "create": {"schema_id": "default", "traits": {"email": address()}}}
        self.call("batchPatchIdentities", body={"identities": [patch]}, status=200)
        second = {"schema_id": "default", "traits": {"email": address()}, "credentials": {
            "password": {"config": {"password": PASSWORD}},
            "totp": {"config": {"totp_url": f"otpauth://totp/x?secret={SEED}"}}}}
        linked = self.call("createIdentity", body=second, status=201).body
        self.call("deleteIdentityCredentials", path={"id": linked["id"], "type": "totp"}, status=204)
        self.call("deleteIdentity", path=here, status=204)

        # And what is refused is refused in the specified form.
        self.call("getIdentity", path=here, status=404)
        self.call("getIdentity", path={"id": "no-uuid"}, status=404)
        self.call("createIdentity", body=second, status=409)
        self.call("createIdentity", body={"schema_id": "default", "traits": 7}, status=400)
        self.call("createIdentity", body={"schema_id": "unknown", "traits": {}}, status=400)
        self.call("patchIdentity", path={"id": linked["id"]}, status=400,
                  body=[{"op": "replace", "path": "/id", "value": "x"}])
        self.call("listIdentities", query={"page_token": "forged"}, status=400)
        self.call("getIdentityByExternalID", path={"externalID": "nobody's"}, status=404)

    def test_sessions_by_administrators(self):
        made = self.create()
        sessions = [self.log_in(made["traits"]["email"])["session"] for _ in range(3)]
        here = {"id": made["id"]}
        self.call("listIdentitySessions", path=here, status=200)
        self.call("listSessions", query={"expand": ["identity", "devices"]}, status=200)
        at = {"id": sessions[0]["id"]}
        self.call("getSession", path=at, query={"expand": ["identity", "devices"]}, status=200)
        extended = self.call("extendSession", path=at)
        self.assertIn(extended.status, (200, 204))
        self.call("disableSession", path=at, status=204)
        ended = self.call("manageSessions", status=200, body={
            "identities": [made["id"]], "action": "disable"}).body
        self.assertEqual(ended, {"processed": 2, "more": False})
        self.call("deleteIdentitySessions", path=here, status=204)
        self.call("getSession", path={"id": str(uuid.uuid4())}, status=404)

    def test_own_sessions(self):
        email = self.create()["traits"]["email"]
        mine, other, third = (self.log_in(email) for _ in range(3))
        token = mine["session_token"]
        self.call("toSession", token=token, status=200)
        self.call("listMySessions", token=token, status=200)
        self.call("disableMySession", path={"id": other["session"]["id"]}, token=token, status=204)
        self.call("disableMyOtherSessions", token=token, status=200)
        self.call("toSession", token=third["session_token"], status=401)
        self.call("performNativeLogout", body={"session_token": token}, status=204)
        self.call("toSession", token=token, status=401)
        self.call("listMySessions", token=token, status=401)
        self.call("exchangeSessionToken", status=404,
                  query={"init_code": "unknown", "return_to_code": "unknown"})

    def test_native_flows(self):
        email = address()
        flow = self.call("createNativeRegistrationFlow", status=200).body
        self.call("getRegistrationFlow", query={"id": flow["id"]}, status=200)
        body = {"method": "password", "password": "short", "traits": {"email": email}}
        at = {"flow": flow["id"]}
        self.call("updateRegistrationFlow", query=at, body=body, status=400)
        body["password"] = PASSWORD
        signed_up = self.call("updateRegistrationFlow", query=at, body=body, status=200).body
        token = signed_up["session_token"]

        self.log_in(email, status=400, password="wrong")
        flow = self.call("createNativeLoginFlow", query={"refresh": "true"}, token=token).body
        self.call("getLoginFlow", query={"id": flow["id"]}, status=200)
        self.call("getLoginFlow", query={"id": str(uuid.uuid4())}, status=404)

        flow = self.call("createNativeVerificationFlow", status=200).body
        at = {"flow": flow["id"]}
        self.call("getVerificationFlow", query={"id": flow["id"]}, status=200)
        self.call("updateVerificationFlow", query=at, status=200,
                  body={"method": "code", "email": email})
        self.call("updateVerificationFlow", query=at, status=200,
                  body={"method": "code", "code": self.code_for(email)})

        flow = self.call("createNativeSettingsFlow", token=token, status=200).body
        self.call("createNativeSettingsFlow", status=401)
        at = {"flow": flow["id"]}
        self.call("getSettingsFlow", query={"id": flow["id"]}, token=token, status=200)
        self.call("updateSettingsFlow", query=at, token=token, status=200, body={
            "method": "profile", "traits": {"email": email, "name": {"first": "Ann"}}})
        self.call("updateSettingsFlow", query=at, token=token, status=400,
                  body={"method": "profile", "traits": {"email": "no address"}})

    def test_recovery(self):
        made = self.create()
        email = made["traits"]["email"]
        flow = self.call("createNativeRecoveryFlow", status=200).body
        self.call("getRecoveryFlow", query={"id": flow["id"]}, status=200)
        at = {"flow": flow["id"]}
        self.call("updateRecoveryFlow", query=at, status=200,
                  body={"method": "code", "email": email})
        self.call("updateRecoveryFlow", query=at, status=200,
                  body={"method": "code", "code": self.code_for(email)})
        who = {"identity_id": made["id"]}
        self.call("createRecoveryCodeForIdentity", body=who, status=201)
        self.call("createRecoveryLinkForIdentity", body=who, status=200)
        self.call("createRecoveryCodeForIdentity", status=404,
                  body={"identity_id": str(uuid.uuid4())})

    def test_flows_of_scripts_in_browsers(self):
        email = self.create()["traits"]["email"]
        flow = self.call("createBrowserLoginFlow", status=200)
        at, cookies = {"flow": flow.body["id"]}, flow.cookies
        body = {"method": "password", "identifier": email, "password": PASSWORD}
        self.call("updateLoginFlow", query=at, body=body, cookies=cookies, status=403)
        body["csrf_token"] = value(flow.body, "csrf_token")
        done = self.call("updateLoginFlow", query=at, body=body, cookies=cookies, status=200)
        cookies |= done.cookies

        for flow in FLOWS:
            known = cookies if flow == "Settings" else None
            made = self.call(f"createBrowser{flow}Flow", cookies=known, status=200)
            self.call(f"get{flow}Flow", query={"id": made.body["id"]}, status=200,
                      cookies={**(known or {}), **made.cookies})
            self.call(f"get{flow}Flow", query={"id": made.body["id"]},
                      status=401 if flow == "Settings" else 403)
        # Who is signed in already is told so, and a page is redirected.
        self.call("createBrowserLoginFlow", cookies=cookies, status=400)
        sent = self.call("createBrowserLoginFlow", headers={"Accept": "text/html"}, status=303)
        self.assertIn("flow=", sent.headers["Location"])

        made = self.call("createBrowserLogoutFlow", cookies=cookies, status=200).body
        sent = self.call("updateLogoutFlow", query={"token": "forged"}, cookies=cookies,
                         headers={"Accept": "text/html"}, status=303)
        self.call("toSession", cookies=cookies, status=200)
        self.call("updateLogoutFlow", query={"token": made["logout_token"]}, cookies=cookies,
                  status=204)
        self.call("createBrowserLogoutFlow", cookies=cookies, status=401)
        error = re.search(r"/error\?id=([0-9a-f-]{36})", sent.headers["Location"]).group(1)
        self.call("getFlowError", query={"id": error}, status=200)
        self.call("getFlowError", query={"id": str(uuid.uuid4())}, status=404)

    def test_messages_schemas_and_the_rest(self):
        email = address()
        flow = self.call("createNativeRegistrationFlow", status=200).body
        self.call("updateRegistrationFlow", query={"flow": flow["id"]}, status=200, body={
            "method": "password", "password": PASSWORD, "traits": {"email": email}})
        messages = self.call("listCourierMessages", query={"recipient": email}, status=200).body
        self.call("getCourierMessage", path={"id": messages[0]["id"]}, status=200)
        self.call("getCourierMessage", path={"id": str(uuid.uuid4())}, status=404)
        self.call("listIdentitySchemas", status=200)
        self.call("getIdentitySchema", path={"id": "default"}, status=200)
        self.call("getIdentitySchema", path={"id": "unknown"}, status=404)
        self.call("getWebAuthnJavaScript", status=200)
        sent = self.call("getWellKnownChangePassword", status=303)
        self.assertIn("/settings", sent.headers["Location"])
        for operation in ("isAlive", "isReady", "getVersion"):
            self.call(operation, status=200)

    def test_providers_that_are_not_there(self):
        body = {"provider_id": "google"}
        self.call("createTestLoginFlow", body=body, status=404)
        self.call("createTestLoginFlow", body={}, status=400)
        self.call("deleteTestLoginFlow", query={"id": str(uuid.uuid4())}, status=404)
        self.call("deleteTestLoginFlow", query={"id": "no-uuid"}, status=400)
        login = self.call("createNativeLoginFlow", status=200).body
        self.call("deleteTestLoginFlow", query={"id": login["id"]}, status=404)
        told = self.call("createFedcmFlow", status=200)
        self.assertEqual(told.body["providers"], [])
        sent = {"csrf_token": told.body["csrf_token"], "token": "x"}
        self.call("updateFedcmFlow", body=sent, status=403)
        self.call("updateFedcmFlow", body=sent, cookies=told.cookies, status=400)

    def test_when_all_is_done_every_operation_was_called(self):
        """Runs last: unittest goes by name, and `when` follows the others."""
        succeeded = {name for name, statuses in self.call.called.items()
                     if any(status < 400 for status in statuses)}
        self.assertEqual(set(SPECIFICATION.operations) - succeeded, WITH_PROVIDERS)
        self.assertEqual(set(SPECIFICATION.operations) - set(self.call.called), set())


if __name__ == "__main__":
    unittest.main()
