"""The official Python client of Ory, as it is published, on every node of a cluster.

What is written through one node is read through the two others, at once: session
checks are linearizable, and so is the end of a session.
"""

import re
import unittest
import uuid

import ory_client
from ory_client.api.courier_api import CourierApi
from ory_client.api.frontend_api import FrontendApi
from ory_client.api.identity_api import IdentityApi
from ory_client.models.create_identity_body import CreateIdentityBody
from ory_client.models.create_recovery_code_for_identity_body import (
    CreateRecoveryCodeForIdentityBody,
)
from ory_client.models.identity_patch import IdentityPatch
from ory_client.models.json_patch import JsonPatch
from ory_client.models.patch_identities_body import PatchIdentitiesBody
from ory_client.models.perform_native_logout_body import PerformNativeLogoutBody
from ory_client.models.update_identity_body import UpdateIdentityBody
from ory_client.models.update_login_flow_body import UpdateLoginFlowBody
from ory_client.models.update_login_flow_with_password_method import (
    UpdateLoginFlowWithPasswordMethod,
)
from ory_client.models.update_recovery_flow_body import UpdateRecoveryFlowBody
from ory_client.models.update_recovery_flow_with_code_method import (
    UpdateRecoveryFlowWithCodeMethod,
)
from ory_client.models.update_registration_flow_body import UpdateRegistrationFlowBody
from ory_client.models.update_registration_flow_with_password_method import (
    UpdateRegistrationFlowWithPasswordMethod,
)
from ory_client.models.update_settings_flow_body import UpdateSettingsFlowBody
from ory_client.models.update_settings_flow_with_password_method import (
    UpdateSettingsFlowWithPasswordMethod,
)
from ory_client.models.update_settings_flow_with_profile_method import (
    UpdateSettingsFlowWithProfileMethod,
)
from ory_client.models.update_verification_flow_body import UpdateVerificationFlowBody
from ory_client.models.update_verification_flow_with_code_method import (
    UpdateVerificationFlowWithCodeMethod,
)

from cluster import Cluster

PASSWORD = "correct horse battery staple"
CLUSTER = Cluster()


def setUpModule():
    CLUSTER.start()


def tearDownModule():
    CLUSTER.stop()


def client(url):
    return ory_client.ApiClient(ory_client.Configuration(host=url))


def address():
    return f"person-{uuid.uuid4().hex[:12]}@example.org"


class OfficialClient(unittest.TestCase):
    def setUp(self):
        self.clients = [client(url) for url in CLUSTER.public + CLUSTER.admin]
        self.frontend = [FrontendApi(c) for c in self.clients[:3]]
        self.identity = [IdentityApi(c) for c in self.clients[3:]]
        self.courier = [CourierApi(c) for c in self.clients[3:]]

    def tearDown(self):
        for c in self.clients:
            c.rest_client.pool_manager.clear()

    def create(self, email, node=0, password=PASSWORD):
        credentials = {"password": {"config": {"password": password}}}
        body = CreateIdentityBody.from_dict({
            "schema_id": "default", "traits": {"email": email}, "credentials": credentials,
            "metadata_public": {"plan": "free"},
        })
        return self.identity[node].create_identity(body)

    def register(self, email, node=0):
        flow = self.frontend[node].create_native_registration_flow()
        method = UpdateRegistrationFlowWithPasswordMethod(
            method="password", password=PASSWORD,
            traits={"email": email, "name": {"first": "Ann", "last": "Example"}},
        )
        return self.frontend[node].update_registration_flow(
            flow=str(flow.id), update_registration_flow_body=UpdateRegistrationFlowBody(method))

    def log_in(self, email, node=0, password=PASSWORD):
        flow = self.frontend[node].create_native_login_flow()
        method = UpdateLoginFlowWithPasswordMethod(
            method="password", identifier=email, password=password)
        return self.frontend[node].update_login_flow(
            flow=str(flow.id), update_login_flow_body=UpdateLoginFlowBody(method))

    def refuses(self, status, call, *args, **kwargs):
        with self.assertRaises(ory_client.ApiException) as raised:
            call(*args, **kwargs)
        self.assertEqual(raised.exception.status, status, raised.exception.body)
        return raised.exception

    def assert_recognised(self, token, identity_id):
        for frontend in self.frontend:
            session = frontend.to_session(x_session_token=token)
            self.assertTrue(session.active)
            self.assertEqual(session.identity.id, identity_id)

    def assert_refused(self, token):
        for frontend in self.frontend:
            self.refuses(401, frontend.to_session, x_session_token=token)

    def test_an_identity_is_created_on_one_node_and_managed_on_the_others(self):
        email = address()
        created = self.create(email, node=0)
        self.assertEqual(created.state, "active")
        self.assertEqual(created.verifiable_addresses[0].value, email)
        self.assertEqual(created.credentials["password"].identifiers, [email])

        read = self.identity[1].get_identity(str(created.id), include_credential=["password"])
        self.assertEqual(read.traits, {"email": email})
        self.assertTrue(
            read.credentials["password"].config["hashed_password"].startswith("$argon2id$"))
        found = self.identity[2].list_identities(credentials_identifier=email)
        self.assertEqual([i.id for i in found], [created.id])
        found = self.identity[2].list_identities(ids=[str(created.id)])
        self.assertEqual([i.id for i in found], [created.id])
        self.refuses(409, self.create, email, node=1)

        other = address()
        changed = self.identity[1].update_identity(str(created.id), UpdateIdentityBody(
            schema_id="default", state="active", traits={"email": other}))
        self.assertEqual(changed.traits, {"email": other})
        patch = [JsonPatch(op="replace", path="/state", value="inactive")]
        patched = self.identity[2].patch_identity(str(created.id), patch)
        self.assertEqual(patched.state, "inactive")
        refused = self.refuses(401, self.log_in, other, node=0)
        self.assertIn("identity_disabled", refused.body)

        self.identity[0].delete_identity(str(created.id))
        for identity in self.identity:
            self.refuses(404, identity.get_identity, str(created.id))

    def test_who_signs_up_on_one_node_is_recognised_on_all(self):
        email = address()
        registered = self.register(email, node=0)
        self.assertEqual(registered.session.identity.id, registered.identity.id)
        actions = [c.actual_instance.action for c in registered.continue_with]
        self.assertIn("set_ory_session_token", actions)
        self.assert_recognised(registered.session_token, registered.identity.id)

        logged_in = self.log_in(email, node=1)
        self.assertEqual(logged_in.session.authenticator_assurance_level, "aal1")
        self.assertEqual(logged_in.session.authentication_methods[0].method, "password")
        self.assertNotEqual(logged_in.session_token, registered.session_token)
        self.assert_recognised(logged_in.session_token, registered.identity.id)

        answer = self.frontend[2].to_session_with_http_info(
            x_session_token=logged_in.session_token)
        self.assertEqual(
            answer.headers["X-Kratos-Authenticated-Identity-Id"], str(registered.identity.id))

    def test_flows_are_read_on_other_nodes_and_tell_what_is_wrong(self):
        flow = self.frontend[0].create_native_login_flow()
        read = self.frontend[1].get_login_flow(str(flow.id))
        self.assertEqual(read.id, flow.id)
        names = [n.attributes.actual_instance.name for n in read.ui.nodes]
        self.assertEqual(names, ["csrf_token", "identifier", "password", "method"])
        flow = self.frontend[2].create_native_registration_flow()
        read = self.frontend[0].get_registration_flow(str(flow.id))
        self.assertIn("traits.email", [n.attributes.actual_instance.name for n in read.ui.nodes])

        email = address()
        self.create(email)
        wrong = self.refuses(400, self.log_in, email, node=1, password="not the password")
        unknown = self.refuses(400, self.log_in, address(), node=2)
        for refused in (wrong, unknown):
            self.assertIn("4000006", refused.body)

    def test_a_session_ends_everywhere_the_moment_it_is_ended(self):
        email = address()
        registered = self.register(email)
        me = registered.session_token
        others = [self.log_in(email, node=node) for node in range(3)]
        listed = self.frontend[1].list_my_sessions(x_session_token=me)
        self.assertEqual({s.id for s in listed}, {s.session.id for s in others})

        self.frontend[2].disable_my_session(str(others[0].session.id), x_session_token=me)
        self.assert_refused(others[0].session_token)
        self.frontend[0].perform_native_logout(
            PerformNativeLogoutBody(session_token=others[1].session_token))
        self.assert_refused(others[1].session_token)
        count = self.frontend[1].disable_my_other_sessions(x_session_token=me)
        self.assertEqual(count.count, 1)
        self.assert_refused(others[2].session_token)
        self.assert_recognised(me, registered.identity.id)
        self.refuses(401, self.frontend[0].list_my_sessions, x_session_token="ory_st_x")

    def test_administrators_list_and_revoke_sessions(self):
        email = address()
        created = self.create(email)
        first, second = self.log_in(email, node=0), self.log_in(email, node=1)
        listed = self.identity[2].list_identity_sessions(str(created.id))
        self.assertEqual({s.id for s in listed}, {first.session.id, second.session.id})
        session = self.identity[0].get_session(
            str(first.session.id), expand=["identity", "devices"])
        self.assertEqual(session.identity.id, created.id)
        self.assertEqual(len(session.devices), 1)
        extended = self.identity[1].extend_session(str(first.session.id))
        self.assertGreaterEqual(extended.expires_at, first.session.expires_at)

        self.identity[1].disable_session(str(first.session.id))
        self.assert_refused(first.session_token)
        self.identity[2].delete_identity_sessions(str(created.id))
        self.assert_refused(second.session_token)

    def test_a_batch_is_created_on_one_node_and_found_on_the_others(self):
        emails = [address() for _ in range(5)]
        external = f"crm-{uuid.uuid4().hex}"
        organization = str(uuid.uuid4())

        def patch(email, **more):
            return IdentityPatch(patch_id=str(uuid.uuid4()), create=CreateIdentityBody.from_dict({
                "schema_id": "default", "traits": {"email": email},
                "credentials": {"password": {"config": {
                    # The MD5 of "password", as another system kept it.
                    "hashed_password": "$md5$X03MO1qnZdYdgyfeuILPmQ=="}}}, **more}))

        patches = [patch(emails[0], external_id=external)]
        patches += [patch(email, organization_id=organization) for email in emails[1:]]
        patches.append(patch(emails[0]))
        done = self.identity[0].batch_patch_identities(PatchIdentitiesBody(identities=patches))
        self.assertEqual([item.action for item in done.identities], ["create"] * 5 + ["error"])
        self.assertEqual([item.patch_id for item in done.identities], [p.patch_id for p in patches])
        ids = [item.identity for item in done.identities[:5]]
        everything_taken = self.refuses(
            409, self.identity[1].batch_patch_identities,
            PatchIdentitiesBody(identities=[patch(emails[0])]))
        self.assertIn("Conflict", everything_taken.body)

        found = self.identity[1].get_identity_by_external_id(external)
        self.assertEqual((found.id, found.external_id), (ids[0], external))
        self.refuses(404, self.identity[2].get_identity_by_external_id, "nobody's")
        listed, token = [], None
        while True:
            page = self.identity[2].list_identities_with_http_info(
                organization_id=organization, page_size=3, page_token=token)
            listed += [i.id for i in page.data]
            link = re.search(r'page_token=([^&>]+)[^>]*>; rel="next"', page.headers["Link"])
            if link is None:
                break
            token = link.group(1)
        self.assertEqual(sorted(listed), sorted(ids[1:]))
        similar = self.identity[1].list_identities(
            preview_credentials_identifier_similar=emails[3][:15])
        self.assertIn(ids[3], [i.id for i in similar])

        # An imported hash lets its owner in, on another node.
        self.log_in(emails[0], node=2, password="password")
        self.refuses(
            400, self.identity[0].delete_identity_credentials, str(ids[0]), "password")
        self.refuses(404, self.identity[1].delete_identity_credentials, str(ids[0]), "totp")

    def test_all_sessions_are_listed(self):
        email = address()
        created = self.create(email)
        mine = [self.log_in(email, node=node).session.id for node in range(3)]
        seen, token = [], None
        while not set(mine) <= {s.id for s in seen}:
            page = self.identity[1].list_sessions_with_http_info(
                active=True, expand=["identity", "devices"], page_size=50, page_token=token)
            seen += page.data
            link = re.search(r'page_token=([^&>]+)[^>]*>; rel="next"', page.headers["Link"])
            self.assertTrue(link or set(mine) <= {s.id for s in seen}, "they are in the list")
            token = link and link.group(1)
        found = [s for s in seen if s.id in mine]
        self.assertEqual({s.identity.id for s in found}, {created.id})
        self.assertEqual([len(s.devices) for s in found], [1, 1, 1])

    def code_for(self, email, node=0):
        messages = self.courier[node].list_courier_messages(recipient=email, status="queued")
        return re.search(r"\d{6}", messages[0].subject).group(0)

    def test_an_address_is_verified_by_the_code_that_was_sent(self):
        email = address()
        registered = self.register(email, node=0)
        steps = {c.actual_instance.action: c.actual_instance for c in registered.continue_with}
        shown = steps["show_verification_ui"].flow
        self.assertEqual(shown.verifiable_address, email)
        flow = self.frontend[1].get_verification_flow(str(shown.id))
        self.assertEqual(flow.state, "sent_email")
        message = self.courier[2].list_courier_messages(recipient=email)[0]
        self.assertEqual(message.template_type, "verification_code_valid")
        self.assertEqual(self.courier[1].get_courier_message(str(message.id)).recipient, email)

        def submit(code, node):
            method = UpdateVerificationFlowWithCodeMethod(method="code", code=code)
            return self.frontend[node].update_verification_flow(
                flow=str(shown.id), update_verification_flow_body=UpdateVerificationFlowBody(method))

        code = self.code_for(email, node=2)
        self.refuses(400, submit, "000000" if code != "000000" else "000001", 1)
        self.assertEqual(submit(code, 2).state, "passed_challenge")
        self.refuses(400, submit, code, 0)
        read = self.identity[0].get_identity(str(registered.identity.id))
        self.assertTrue(read.verifiable_addresses[0].verified)

    def test_a_lost_password_is_recovered_on_other_nodes_than_it_was_asked_for(self):
        email = address()
        created = self.create(email)
        flow = self.frontend[0].create_native_recovery_flow()

        def submit(node, flow, **fields):
            method = UpdateRecoveryFlowWithCodeMethod(method="code", **fields)
            return self.frontend[node].update_recovery_flow(
                flow=str(flow), update_recovery_flow_body=UpdateRecoveryFlowBody(method))

        self.assertEqual(submit(1, flow.id, email=email).state, "sent_email")
        code = self.code_for(email, node=2)
        done = submit(2, flow.id, code=code)
        steps = {c.actual_instance.action: c.actual_instance for c in done.continue_with}
        token = steps["set_ory_session_token"].ory_session_token
        self.assert_recognised(token, created.id)
        self.refuses(400, submit, 0, flow.id, code=code)

        method = UpdateSettingsFlowWithPasswordMethod(method="password", password="a new and longer password")
        saved = self.frontend[1].update_settings_flow(
            flow=str(steps["show_settings_ui"].flow.id), x_session_token=token,
            update_settings_flow_body=UpdateSettingsFlowBody(method))
        self.assertEqual(saved.state, "success")
        self.log_in(email, node=0, password="a new and longer password")
        self.refuses(400, self.log_in, email, node=2)

        # Whoever has no account is told the same.
        flow = self.frontend[2].create_native_recovery_flow()
        self.assertEqual(submit(0, flow.id, email=address()).state, "sent_email")

        # An administrator may hand out a code.
        made = self.identity[1].create_recovery_code_for_identity(
            CreateRecoveryCodeForIdentityBody(identity_id=str(created.id), flow_type="api"))
        done = submit(2, made.recovery_link.split("flow=")[1], code=made.recovery_code)
        self.assertEqual(done.state, "passed_challenge")

    def test_settings_are_changed_and_end_other_sessions(self):
        email = address()
        self.create(email)
        first, second = self.log_in(email, node=0), self.log_in(email, node=1)
        flow = self.frontend[0].create_native_settings_flow(x_session_token=first.session_token)
        self.assertEqual(flow.identity.traits["email"], email)
        profile = UpdateSettingsFlowWithProfileMethod(
            method="profile", traits={"email": email, "name": {"first": "Ann"}})
        saved = self.frontend[1].update_settings_flow(
            flow=str(flow.id), x_session_token=first.session_token,
            update_settings_flow_body=UpdateSettingsFlowBody(profile))
        self.assertEqual(saved.identity.traits["name"], {"first": "Ann"})
        self.assert_recognised(second.session_token, flow.identity.id)
        password = UpdateSettingsFlowWithPasswordMethod(
            method="password", password="another password entirely")
        self.frontend[2].update_settings_flow(
            flow=str(flow.id), x_session_token=first.session_token,
            update_settings_flow_body=UpdateSettingsFlowBody(password))
        self.assert_refused(second.session_token)
        self.assert_recognised(first.session_token, flow.identity.id)
        self.refuses(
            403, self.frontend[0].get_settings_flow, str(flow.id),
            x_session_token=self.register(address()).session_token)

    def browser(self, node):
        """A client that keeps what cookies it is given, and sends them."""
        c = client(CLUSTER.public[node])
        self.addCleanup(c.rest_client.pool_manager.clear)
        return FrontendApi(c)

    @staticmethod
    def cookies(answer):
        headers = {name.lower(): value for name, value in answer.headers.items()}
        values = headers.get("set-cookie", "")
        return "; ".join(re.findall(r"(?:^|, )([^=,; ]+=[^;]*)", values))

    def test_a_script_in_a_page_signs_up_and_out(self):
        frontend, email = self.browser(0), address()
        begun = frontend.create_browser_registration_flow_with_http_info()
        cookie = self.cookies(begun)
        node = next(n for n in begun.data.ui.nodes
                    if n.attributes.actual_instance.name == "csrf_token")
        token = node.attributes.actual_instance.value
        method = UpdateRegistrationFlowWithPasswordMethod(
            method="password", password=PASSWORD, traits={"email": email},
            csrf_token=str(token.actual_instance if hasattr(token, "actual_instance") else token))
        body = UpdateRegistrationFlowBody(method)
        flow = str(begun.data.id)
        self.refuses(403, frontend.update_registration_flow, flow, body)
        done = frontend.update_registration_flow_with_http_info(flow, body, cookie=cookie)
        self.assertIsNone(done.data.session_token)
        cookie = self.cookies(done)
        self.assertIn("ory_kratos_session=", cookie)
        self.assertEqual(frontend.to_session(cookie=cookie).identity.id, done.data.identity.id)
        logout = self.browser(0).create_browser_logout_flow(cookie=cookie)
        frontend.update_logout_flow(token=logout.logout_token)
        self.refuses(401, frontend.to_session, cookie=cookie)

    def test_schemas_are_read(self):
        schemas = self.identity[0].list_identity_schemas()
        self.assertIn("default", [s.id for s in schemas])
        schema = self.identity[1].get_identity_schema("default")
        self.assertIn("traits", schema["properties"])


if __name__ == "__main__":
    unittest.main()
