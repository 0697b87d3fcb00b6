"""Runs the tests of the official JavaScript clients, in ../javascript, against three nodes.

They are passed over where CARDEA_JAVASCRIPT does not name a folder in which the client is
installed: scripts/python-client installs it where there is npm.
"""

import os
import pathlib
import shutil
import subprocess
import unittest

from cluster import Cluster

SUITE = pathlib.Path(__file__).parent.parent / "javascript"
CLUSTER = Cluster()


def setUpModule():
    if not os.environ.get("CARDEA_JAVASCRIPT"):
        raise unittest.SkipTest("the JavaScript client is not installed")
    CLUSTER.start()


def tearDownModule():
    CLUSTER.stop()


class JavascriptClient(unittest.TestCase):
    def test_the_official_client_is_answered_by_every_node(self):
        folder = pathlib.Path(os.environ["CARDEA_JAVASCRIPT"])
        for file in SUITE.glob("*.test.js"):
            shutil.copy(file, folder / file.name)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CARDEA_")}
        environment["CARDEA_PUBLIC_URLS"] = " ".join(CLUSTER.public)
        environment["CARDEA_ADMIN_URLS"] = " ".join(CLUSTER.admin)
        ports = [str(port) for ports in CLUSTER.keto for port in ports]
        environment["CARDEA_KETO_PORTS"] = " ".join(ports)
        done = subprocess.run(
            ["node", "--test", "."], cwd=folder, env=environment,
            capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
