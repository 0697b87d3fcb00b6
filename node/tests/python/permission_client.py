"""Permissions through the official Python clients of Ory, as they are published, on every
node of a cluster: each operation of Keto, with checks on other nodes than the writes. The
one for all services (ory-client) and the one for Keto alone (ory-keto-client) are made
alike, and are asked the same.
"""

import importlib
import json
import pathlib
import time
import unittest
import urllib.error
import urllib.request
import uuid

from cluster import HOST, Cluster

CLUSTER = Cluster()


def status_in_the_end(url):
    """The status of an answer; 503 is asked again for a while, as a shard may just elect."""
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > until:
                return error.code
        time.sleep(0.1)


class Library:
    """A generated client by its package."""

    def __init__(self, package):
        root = importlib.import_module(package)
        names = (
            "ApiClient Configuration MetadataApi PermissionApi RelationshipApi ApiException "
            "NotFoundException BatchCheckPermissionBody CreateRelationshipBody "
            "PostCheckPermissionBody PostCheckPermissionOrErrorBody Relationship "
            "RelationshipPatch SubjectSet"
        )
        places = [root, root.exceptions]
        for name in names.split():
            for place in places:
                if hasattr(place, name):
                    setattr(self, name, getattr(place, name))

    def client(self, url):
        return self.ApiClient(self.Configuration(host=url))

    def body(self, kind, text):
        namespace, rest = text.split(":", 1)
        object_, rest = rest.split("#", 1)
        relation, subject = rest.split("@", 1)
        fields = {"namespace": namespace, "object": object_, "relation": relation}
        if subject.startswith("("):
            inner, set_relation = subject[1:-1].split("#")
            set_namespace, set_object = inner.split(":")
            fields["subject_set"] = self.SubjectSet(
                namespace=set_namespace, object=set_object, relation=set_relation
            )
        else:
            fields["subject_id"] = subject
        return getattr(self, kind)(**fields)


LANGUAGE = """
class User implements Namespace {}
class Group implements Namespace {
  related: { members: (User | SubjectSet<Group, "members">)[] }
}
class Folder implements Namespace {
  related: { parents: Folder[]; viewers: (User | SubjectSet<Group, "members">)[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.viewers.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
  }
}
"""


def setUpModule():
    CLUSTER.start()
    files = [{"name": "main.ts", "text": LANGUAGE}]
    put(CLUSTER.admin[0] + "/admin/opl", {"files": files, "force": True})


def tearDownModule():
    CLUSTER.stop()


def put(url, body):
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), method="PUT",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


class Permissions(unittest.TestCase):
    package = "ory_client"

    @classmethod
    def setUpClass(cls):
        cls.ory = Library(cls.package)

    def setUp(self):
        self.clients = [self.ory.client(url) for url in CLUSTER.admin]
        self.relationships = [self.ory.RelationshipApi(c) for c in self.clients]
        self.permissions = [self.ory.PermissionApi(c) for c in self.clients]
        self.id = uuid.uuid4().hex[:8]

    def tearDown(self):
        for c in self.clients:
            c.rest_client.pool_manager.clear()

    def create(self, text, node=0):
        body = self.ory.body("CreateRelationshipBody", text)
        return self.relationships[node].create_relationship(body)

    def test_written_on_one_node_and_checked_on_all(self):
        group, a, b = (f"{name}-{self.id}" for name in ("g", "a", "b"))
        made = self.create(f"Group:{group}#members@ann")
        self.assertEqual(made.subject_id, "ann")
        self.create(f"Folder:{a}#viewers@(Group:{group}#members)", node=1)
        self.create(f"Folder:{b}#parents@(Folder:{a}#)", node=2)
        for api in self.permissions:
            asked = {"namespace": "Folder", "object": b, "relation": "view"}
            self.assertTrue(api.check_permission(**asked, subject_id="ann").allowed)
            self.assertFalse(api.check_permission(**asked, subject_id="eve").allowed)
            self.assertTrue(api.check_permission_or_error(**asked, subject_id="ann").allowed)
            with self.assertRaises(self.ory.ApiException) as denied:
                api.check_permission_or_error(**asked, subject_id="eve")
            self.assertEqual(denied.exception.status, 403)
            text = f"Folder:{b}#view@(Group:{group}#members)"
            self.assertTrue(
                api.post_check_permission(
                    post_check_permission_body=self.ory.body("PostCheckPermissionBody", text)
                ).allowed
            )
            self.assertTrue(
                api.post_check_permission_or_error(
                    post_check_permission_or_error_body=self.ory.body(
                        "PostCheckPermissionOrErrorBody", text
                    )
                ).allowed
            )
        self.relationships[1].delete_relationships(namespace="Group", object=group)
        for api in self.permissions:
            asked = {"namespace": "Folder", "object": b, "relation": "view"}
            self.assertFalse(api.check_permission(**asked, subject_id="ann").allowed)

    def test_patch_list_and_delete(self):
        texts = [f"Group:p-{self.id}-{at}#members@bob" for at in range(5)]
        patches = [
            self.ory.RelationshipPatch(action=action, relation_tuple=self.ory.body("Relationship", text))
            for action, text in [("insert", text) for text in texts] + [("delete", texts[0])]
        ]
        self.relationships[0].patch_relationships(patches)
        found, token = [], ""
        while True:
            page = self.relationships[1].get_relationships(
                namespace="Group", relation="members", subject_id="bob",
                page_size=2, page_token=token,
            )
            found += [t.object for t in page.relation_tuples if self.id in t.object]
            token = page.next_page_token
            if not token:
                break
        self.assertEqual(found, [f"p-{self.id}-{at}" for at in range(1, 5)])
        self.relationships[2].delete_relationships(
            namespace="Group", object=f"p-{self.id}-1", relation="members", subject_id="bob"
        )
        left = self.relationships[0].get_relationships(
            namespace="Group", object=f"p-{self.id}-1"
        )
        self.assertEqual(left.relation_tuples, [])
        with self.assertRaises(self.ory.NotFoundException):
            self.relationships[0].get_relationships(namespace="Unheard")

    def test_batch_and_expand(self):
        group = f"x-{self.id}"
        self.create(f"Group:{group}#members@ann")
        self.create(f"Group:{group}#members@(Group:other-{self.id}#members)")
        self.create(f"Group:other-{self.id}#members@bob")
        tuples = [
            self.ory.body("Relationship", f"Group:{group}#members@{who}")
            for who in ("ann", "bob", "eve")
        ] + [self.ory.body("Relationship", "Unheard:1#x@ann")]
        for api in self.permissions:
            results = api.batch_check_permission(
                batch_check_permission_body=self.ory.BatchCheckPermissionBody(tuples=tuples)
            ).results
            self.assertEqual([r.allowed for r in results], [True, True, False, False])
            self.assertIn("Unheard", results[3].error)
            tree = api.expand_permissions(namespace="Group", object=group, relation="members")
            self.assertEqual(tree.type, "union")
            leaves = {child.tuple.subject_id for child in tree.children}
            self.assertIn("ann", leaves)
            inner = [child for child in tree.children if child.type == "union"]
            self.assertEqual(inner[0].children[0].tuple.subject_id, "bob")

    def test_namespaces_syntax_and_version(self):
        for relationships, c in zip(self.relationships, self.clients):
            names = [n.name for n in relationships.list_relationship_namespaces().namespaces]
            self.assertEqual(names, ["Folder", "Group", "User"])
            good = relationships.check_opl_syntax(LANGUAGE)
            self.assertFalse(good.errors)
            bad = relationships.check_opl_syntax("class A implements Namespace { x }")
            self.assertEqual(len(bad.errors), 1)
            self.assertEqual(bad.errors[0].start.line, 1)
            metadata = self.ory.MetadataApi(c)
            self.assertTrue(metadata.get_version().version)
            if self.package == "ory_keto_client":  # The other one leaves health to the service.
                self.assertEqual(metadata.is_alive().status, "ok")
                self.assertEqual(metadata.is_ready().status, "ok")
        for ports in CLUSTER.keto:
            for port in ports:
                for path in ("/health/alive", "/health/ready", "/version"):
                    self.assertEqual(status_in_the_end(f"http://{HOST}:{port}{path}"), 200, path)

    def test_every_operation_of_the_client_is_called_here(self):
        text = pathlib.Path(__file__).read_text(encoding="utf-8")
        for api in (self.ory.MetadataApi, self.ory.PermissionApi, self.ory.RelationshipApi):
            # Each also stands there in two variants with other results.
            operations = [
                name.removesuffix("_with_http_info")
                for name in vars(api) if name.endswith("_with_http_info")
            ]
            self.assertTrue(operations)
            for operation in operations:
                self.assertIn(f".{operation}(", text, api)

    def test_public_listener_asks_for_a_key(self):
        for url in CLUSTER.public:
            for path in ("/relation-tuples", "/namespaces", "/relation-tuples/check"):
                with self.assertRaises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(url + path, timeout=10)
                self.assertEqual(refused.exception.code, 401)

    @unittest.skipUnless(CLUSTER.keto, "no ports of Keto are given")
    def test_ports_of_keto_answer_their_part(self):
        for ports in CLUSTER.keto:
            clients = [self.ory.client(f"http://{HOST}:{port}") for port in ports]
            read, write, opl = (self.ory.RelationshipApi(client) for client in clients)
            self.assertEqual(len(read.list_relationship_namespaces().namespaces), 3)
            text = f"Group:k-{self.id}-{ports[1]}#members@ann"
            write.create_relationship(self.ory.body("CreateRelationshipBody", text))
            asked = self.ory.body("PostCheckPermissionBody", text)
            reader = self.ory.PermissionApi(clients[0])
            self.assertTrue(reader.post_check_permission(post_check_permission_body=asked).allowed)
            self.assertFalse(opl.check_opl_syntax(LANGUAGE).errors)
            with self.assertRaises(self.ory.NotFoundException):
                read.check_opl_syntax(LANGUAGE)
            with self.assertRaises(self.ory.NotFoundException):
                opl.get_relationships()


class PermissionsByTheClientOfKeto(Permissions):
    package = "ory_keto_client"


if __name__ == "__main__":
    unittest.main()
