"""Coming from Ory: a database of Kratos is brought along by the command line, and its
people log in with the passwords that they had, on every node."""

import json
import os
import pathlib
import sqlite3
import subprocess
import tempfile
import unittest

import ory_client
from ory_client.api.frontend_api import FrontendApi
from ory_client.api.identity_api import IdentityApi
from ory_client.models.update_login_flow_body import UpdateLoginFlowBody
from ory_client.models.update_login_flow_with_password_method import (
    UpdateLoginFlowWithPasswordMethod,
)

from cluster import Cluster

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
CLUSTER = Cluster()


def setUpModule():
    if not os.environ.get("CARDEA_BINARY"):
        raise unittest.SkipTest("CARDEA_BINARY names the command line that is tried")
    CLUSTER.start()


def tearDownModule():
    CLUSTER.stop()


class ImportOry(unittest.TestCase):
    def setUp(self):
        self.clients = [
            ory_client.ApiClient(ory_client.Configuration(host=url))
            for url in CLUSTER.public + CLUSTER.admin
        ]
        self.frontend = [FrontendApi(c) for c in self.clients[:3]]
        self.identity = [IdentityApi(c) for c in self.clients[3:]]

    def tearDown(self):
        for c in self.clients:
            c.rest_client.pool_manager.clear()

    def bring(self, *arguments, node=0):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CARDEA_")}
        done = subprocess.run(
            [os.environ["CARDEA_BINARY"], "import", "ory", *map(str, arguments),
             "--admin-url", CLUSTER.admin[node], "--output", "json"],
            capture_output=True, text=True, env=environment, timeout=120)
        self.assertIn(done.returncode, (0, 4), done.stderr)
        return json.loads(done.stdout)

    def log_in(self, email, node):
        flow = self.frontend[node].create_native_login_flow()
        method = UpdateLoginFlowWithPasswordMethod(
            method="password", identifier=email, password="password")
        return self.frontend[node].update_login_flow(
            flow=str(flow.id), update_login_flow_body=UpdateLoginFlowBody(method))

    def test_a_database_of_kratos_is_brought_and_its_people_log_in(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "kratos.sqlite"
            with sqlite3.connect(file) as database:
                database.executescript((FIXTURES / "kratos.sqlite.sql").read_text())
            database.close()
            lines = pathlib.Path(folder) / "report.jsonl"

            rehearsed = self.bring(file, "--dry-run")
            self.assertEqual(rehearsed["identities"]["created"], 2)
            self.assertEqual(rehearsed["survey"]["shared"][0]["value"], "ann@import.test")
            ann = "0a1b2c3d-0000-4000-8000-000000000001"
            with self.assertRaises(ory_client.ApiException):
                self.identity[1].get_identity(ann)

            done = self.bring(file, "--report", lines, node=1)
            self.assertEqual(done["identities"], {"created": 2, "refused": 2})
            refused = {item["id"]: item["reason"] for item in done["refused"]}
            self.assertIn("customer", refused["5a5a5a5a-0000-4000-8000-000000000004"])
            self.assertEqual(len(lines.read_text().splitlines()), 2)

            # Her second factor came along: until she proves it, nothing of her is shown.
            session = self.log_in("ann@import.test", node=2)
            self.assertIsNone(session.session.identity)
            read = self.identity[0].get_identity(ann)
            self.assertTrue(read.verifiable_addresses[0].verified)
            self.assertEqual(read.external_id, "crm-1")
            self.assertEqual(read.metadata_admin, {"note": "vip"})
            self.assertIn("totp", read.credentials)
            with self.assertRaises(ory_client.ApiException) as disabled:
                self.log_in("bob@import.test", node=1)
            self.assertIn("identity_disabled", disabled.exception.body)

            again = self.bring(file, node=2)
            self.assertEqual(again["identities"], {"unchanged": 2, "refused": 2})


if __name__ == "__main__":
    unittest.main()
