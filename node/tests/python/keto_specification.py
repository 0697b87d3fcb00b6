"""Every operation of Ory Keto, each answer judged by Ory's specification.

Calls go to the three nodes in turn, so that what is written on one is asked of others.
"""

import json
import unittest
import urllib.request
import uuid

from cluster import Cluster
from specification import Caller, Specification

CLUSTER = Cluster()
SPECIFICATION = Specification("keto")
LANGUAGE = """
class User implements Namespace {}
class Group implements Namespace {
  related: { members: (User | SubjectSet<Group, "members">)[] }
}
"""


def setUpModule():
    CLUSTER.start()
    body = json.dumps({"files": [{"name": "main.ts", "text": LANGUAGE}], "force": True})
    request = urllib.request.Request(
        CLUSTER.admin[0] + "/admin/opl", data=body.encode(), method="PUT",
        headers={"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


def tearDownModule():
    CLUSTER.stop()


class EveryOperation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.call = Caller(SPECIFICATION, CLUSTER.admin, CLUSTER.admin)

    @classmethod
    def tearDownClass(cls):
        cls.call.close()

    def setUp(self):
        self.group = f"g-{uuid.uuid4().hex[:8]}"

    def member(self, subject="ann", **more):
        return {"namespace": "Group", "object": self.group, "relation": "members",
                "subject_id": subject, **more}

    def test_tuples(self):
        made = self.call("createRelationship", body=self.member(), status=201).body
        self.assertEqual(made["subject_id"], "ann")
        through = self.member()
        del through["subject_id"]
        through["subject_set"] = {"namespace": "Group", "object": "all", "relation": "members"}
        self.call("createRelationship", body=through, status=201)
        self.call("patchRelationships", status=204, body=[
            {"action": "insert", "relation_tuple": self.member("bob")},
            {"action": "delete", "relation_tuple": self.member("ann")}])
        query = {"namespace": "Group", "object": self.group, "page_size": 1}
        seen, token = [], ""
        while True:
            page = self.call("getRelationships", query={**query, "page_token": token}, status=200)
            seen += page.body["relation_tuples"]
            token = page.body["next_page_token"]
            if not token:
                break
        self.assertEqual(sorted(t.get("subject_id", "") for t in seen), ["", "bob"])
        self.call("deleteRelationships", query={"namespace": "Group", "object": self.group},
                  status=204)
        self.assertEqual(
            self.call("getRelationships", query=query, status=200).body["relation_tuples"], [])

        self.call("createRelationship", body={"namespace": "Group"}, status=400)
        self.call("patchRelationships", status=400, body=[
            {"action": "conjure", "relation_tuple": self.member()}])
        self.call("getRelationships", query={"page_token": "forged"}, status=400)

    def test_checks(self):
        self.call("createRelationship", body=self.member(), status=201)
        for subject, allowed in (("ann", True), ("eve", False)):
            asked = self.member(subject)
            told = {"allowed": allowed}
            for operation in ("checkPermission", "postCheckPermission"):
                given = {"query": asked} if operation.startswith("check") else {"body": asked}
                self.assertEqual(self.call(operation, **given, status=200).body, told)
                given_status = 200 if allowed else 403
                answer = self.call(operation + "OrError", **given, status=given_status)
                self.assertEqual(answer.body, told)
        batch = {"tuples": [self.member("ann"), self.member("eve")]}
        results = self.call("batchCheckPermission", body=batch, status=200).body["results"]
        self.assertEqual([result["allowed"] for result in results], [True, False])
        place = {"namespace": "Group", "object": self.group, "relation": "members"}
        tree = self.call("expandPermissions", query=place, status=200).body
        self.assertEqual(tree["type"], "union")
        self.call("expandPermissions", query={**place, "object": "nobody's"}, status=404)
        self.call("checkPermission", query={"namespace": "Group"}, status=400)
        self.call("checkPermission", query={**self.member(), "max-depth": "deep"}, status=400)

    def test_namespaces_and_the_rest(self):
        names = self.call("listRelationshipNamespaces", status=200).body["namespaces"]
        self.assertEqual([name["name"] for name in names], ["Group", "User"])
        self.call("checkOplSyntax", text=LANGUAGE, status=200)
        wrong = self.call("checkOplSyntax", text="class A implements Namespace { x }", status=200)
        self.assertTrue(wrong.body["errors"])
        for operation in ("isAlive", "isReady", "getVersion"):
            self.call(operation, status=200)

    def test_when_all_is_done_every_operation_was_called(self):
        """Runs last: unittest goes by name, and `when` follows the others."""
        succeeded = {name for name, statuses in self.call.called.items()
                     if any(status < 400 for status in statuses)}
        self.assertEqual(set(SPECIFICATION.operations) - succeeded, set())


if __name__ == "__main__":
    unittest.main()
