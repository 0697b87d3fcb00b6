"""Permissions over gRPC by a client that knows nothing but reflection: every service, each
call on another node than the one before, over the common listener and Keto's own.
"""

import base64
import itertools
import json
import pathlib
import unittest
import urllib.request
import uuid

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from cluster import HOST, Cluster

CLUSTER = Cluster()
RTS = "ory.keto.relation_tuples.v1alpha2"
OPL = "ory.keto.opl.v1alpha1"
CARDEA = "cardea.permission.v1"
HEALTH = "grpc.health.v1.Health"
REFLECTION = {"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
LANGUAGE = """
class User implements Namespace {}
class Group implements Namespace { related: { members: User[] } }
class Doc implements Namespace {
  related: { viewers: SubjectSet<Group, "members">[]; owners: User[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.viewers.includes(ctx.subject) || this.related.owners.includes(ctx.subject),
  }
}
"""


def setUpModule():
    CLUSTER.start()
    body = json.dumps({"files": [{"name": "main.ts", "text": LANGUAGE}], "force": True})
    request = urllib.request.Request(
        CLUSTER.admin[0] + "/admin/opl", data=body.encode(), method="PUT",
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


def tearDownModule():
    CLUSTER.stop()


def subject(text):
    if not text.startswith("("):
        return {"id": text}
    rest, relation = text[1:-1].split("#")
    namespace, object_ = rest.split(":")
    return {"set": {"namespace": namespace, "object": object_, "relation": relation}}


def tuple_of(text):
    namespace, rest = text.split(":", 1)
    object_, rest = rest.split("#", 1)
    relation, who = rest.split("@", 1)
    return {
        "namespace": namespace, "object": object_, "relation": relation, "subject": subject(who),
    }


class Node:
    """A generic client of one listener."""

    def __init__(self, target, key=None):
        self.channel = grpc.insecure_channel(target)
        self.metadata = [("authorization", f"Bearer {key}")] if key else []
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def close(self):
        self.channel.close()

    def _method(self, service, name):
        method = self.pool.FindServiceByName(service).methods_by_name[name]
        make = message_factory.GetMessageClass
        return make(method.input_type), make(method.output_type), f"/{service}/{name}"

    def call(self, service, name, body=None, timeout=30):
        asks, answers, path = self._method(service, name)
        call = self.channel.unary_unary(
            path, request_serializer=asks.SerializeToString,
            response_deserializer=answers.FromString,
        )
        request = json_format.ParseDict(body or {}, asks())
        answer = call(request, timeout=timeout, metadata=self.metadata)
        return json_format.MessageToDict(answer, preserving_proto_field_name=True)

    def stream(self, service, name, body=None, timeout=60):
        asks, answers, path = self._method(service, name)
        call = self.channel.unary_stream(
            path, request_serializer=asks.SerializeToString,
            response_deserializer=answers.FromString,
        )
        request = json_format.ParseDict(body or {}, asks())
        return call(request, timeout=timeout, metadata=self.metadata)

    def read(self, message):
        return json_format.MessageToDict(message, preserving_proto_field_name=True)


def target(url):
    return url.removeprefix("http://")


def reason(error):
    """What `google.rpc.ErrorInfo` says."""
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return None


class ByReflection(unittest.TestCase):
    def setUp(self):
        self.nodes = [Node(target(url)) for url in CLUSTER.admin]
        turns = itertools.cycle(self.nodes)
        self.next = lambda: next(turns)
        self.id = uuid.uuid4().hex[:8]

    def tearDown(self):
        for node in self.nodes:
            node.close()

    def call(self, service, name, body=None):
        return self.next().call(service, name, body)

    def transact(self, *texts):
        actions = {"+": "ACTION_INSERT", "-": "ACTION_DELETE"}
        deltas = [
            {"action": actions[text[0]], "relation_tuple": tuple_of(text[1:])} for text in texts
        ]
        answer = self.call(
            f"{RTS}.WriteService", "TransactRelationTuples", {"relation_tuple_deltas": deltas}
        )
        self.assertEqual(len(answer["snaptokens"]), len(texts))
        return answer["snaptokens"][-1]

    def check(self, text, **fields):
        body = {"tuple": tuple_of(text), **fields}
        answer = self.call(f"{RTS}.CheckService", "Check", body)
        self.assertTrue(answer["snaptoken"])
        return answer.get("allowed", False)

    def refused(self, code, service, name, body=None):
        with self.assertRaises(grpc.RpcError) as refused:
            self.call(service, name, body)
        self.assertEqual(refused.exception.code(), code, refused.exception)
        return refused.exception

    def test_services_are_listed(self):
        rts = {
            f"{RTS}.{name}Service"
            for name in ("Check", "Expand", "Read", "Write", "Namespaces", "Version")
        }
        cardea = {f"{CARDEA}.WatchService", f"{CARDEA}.LookupService"}
        everything = rts | cardea | REFLECTION | {f"{OPL}.SyntaxService", HEALTH}
        for node in self.nodes:
            self.assertEqual(set(node.database.get_services()), everything)
        for ports in CLUSTER.keto:
            of_doors = [
                rts - {f"{RTS}.WriteService"} | cardea,
                {f"{RTS}.WriteService", f"{RTS}.VersionService"},
                {f"{OPL}.SyntaxService", f"{RTS}.VersionService"},
            ]
            for port, services in zip(ports, of_doors):
                node = Node(f"{HOST}:{port}")
                found = set(node.database.get_services())
                self.assertEqual(found, services | REFLECTION | {HEALTH})
                version = node.call(f"{RTS}.VersionService", "GetVersion")["version"]
                self.assertRegex(version, r"^\d+\.\d+")
                self.assertEqual(node.call(HEALTH, "Check"), {"status": "SERVING"})
                node.close()

    def test_every_method_is_called_here(self):
        text = pathlib.Path(__file__).read_text(encoding="utf-8")
        methods = [
            method.name
            for service in self.nodes[0].database.get_services()
            if service not in REFLECTION
            for method in self.nodes[0].pool.FindServiceByName(service).methods
        ]
        self.assertGreater(len(methods), 12)
        for method in methods:
            self.assertIn(f'"{method}"', text)

    def test_write_check_expand_list_delete(self):
        doc, group = f"d-{self.id}", f"g-{self.id}"
        token = self.transact(
            f"+Doc:{doc}#viewers@(Group:{group}#members)", f"+Group:{group}#members@ann"
        )
        for _ in self.nodes:
            self.assertTrue(self.check(f"Doc:{doc}#view@ann", snaptoken=token))
            self.assertFalse(self.check(f"Doc:{doc}#view@eve", latest=True))
        tuples = [tuple_of(f"Doc:{doc}#view@ann"), tuple_of("Unheard:1#x@ann")]
        results = self.call(f"{RTS}.CheckService", "BatchCheck", {"tuples": tuples})["results"]
        self.assertTrue(results[0]["allowed"])
        self.assertIn("Unheard", results[1]["error"])
        tree = self.call(
            f"{RTS}.ExpandService", "Expand", {"subject": subject(f"(Group:{group}#members)")}
        )["tree"]
        self.assertEqual(tree["node_type"], "NODE_TYPE_UNION")
        self.assertEqual(tree["children"][0]["tuple"]["subject"], {"id": "ann"})
        query = {"relation_query": {"namespace": "Group", "object": group}, "page_size": 1}
        self.transact(f"+Group:{group}#members@bob")
        found, pages = [], 0
        while True:
            page = self.call(f"{RTS}.ReadService", "ListRelationTuples", query)
            found += [t["subject"]["id"] for t in page.get("relation_tuples", [])]
            pages += 1
            query["page_token"] = page.get("next_page_token", "")
            if not query["page_token"]:
                break
        # The last page may be empty.
        self.assertEqual(found, ["ann", "bob"])
        self.assertIn(pages, (2, 3))
        revoked = self.transact(f"-Group:{group}#members@ann")
        for _ in self.nodes:
            self.assertFalse(self.check(f"Doc:{doc}#view@ann", snaptoken=revoked))
        self.call(
            f"{RTS}.WriteService", "DeleteRelationTuples",
            {"relation_query": {"namespace": "Group", "object": group}},
        )
        self.assertFalse(self.check(f"Doc:{doc}#view@bob"))

    def test_namespaces_and_syntax(self):
        for _ in self.nodes:
            found = self.call(f"{RTS}.NamespacesService", "ListNamespaces")["namespaces"]
            self.assertEqual([n["name"] for n in found], ["Doc", "Group", "User"])
        check = f"{OPL}.SyntaxService", "Check"
        encoded = lambda text: {"content": base64.b64encode(text.encode()).decode()}
        self.assertEqual(self.call(*check, encoded(LANGUAGE)), {})
        errors = self.call(*check, encoded("class A implements Namespace { x }"))["parse_errors"]
        self.assertEqual(errors[0]["start"]["line"], 1)

    def test_watch_on_one_node_what_others_write(self):
        doc = f"w-{self.id}"
        query = {"relation_query": {"namespace": "Doc", "object": doc}}
        streams = [node.stream(f"{CARDEA}.WatchService", "Watch", query) for node in self.nodes]
        first = [next(stream) for stream in streams]
        self.assertTrue(all(message.snaptoken and not message.changes for message in first))
        self.transact(f"+Doc:{doc}#owners@ann", f"+Doc:{doc}#owners@bob")
        self.transact(f"-Doc:{doc}#owners@ann")
        told = []
        for stream in streams:
            events = []
            while len(events) < 2:
                message = next(stream)
                if message.changes:
                    events.append([
                        (c.action, c.relation_tuple.subject.id) for c in message.changes
                    ])
            told.append(events)
            stream.cancel()
        self.assertEqual(told, [[[(1, "ann"), (1, "bob")], [(2, "ann")]]] * 3)
        # Taken up on another node from where the first one stood.
        body = {**query, "snaptoken": first[0].snaptoken}
        stream = self.nodes[1].stream(f"{CARDEA}.WatchService", "Watch", body)
        changes = [m for m in itertools.islice(stream, 3) if m.changes]
        self.assertEqual([len(m.changes) for m in changes], [2, 1])
        stream.cancel()

    def test_lookups(self):
        docs = [f"l-{self.id}-{at}" for at in range(3)]
        token = self.transact(*[f"+Doc:{doc}#owners@{self.id}" for doc in docs])
        body = {
            "namespace": "Doc", "relation": "view", "subject": {"id": self.id},
            "snaptoken": token,
        }
        found = self.next().stream(f"{CARDEA}.LookupService", "ListObjects", body)
        self.assertEqual([name for message in found for name in message.objects], docs)
        body = {"namespace": "Doc", "relation": "view", "object": docs[0]}
        found = self.next().stream(f"{CARDEA}.LookupService", "ListSubjects", body)
        self.assertEqual([name for message in found for name in message.subjects], [self.id])
        body = {"namespace": "Doc", "object": docs[0], "subject": {"id": self.id}}
        found = self.call(f"{CARDEA}.LookupService", "ListActions", body)
        self.assertEqual(found["actions"], ["owners", "view"])

    def test_refusals(self):
        check = f"{RTS}.CheckService", "Check"
        unknown = {"tuple": tuple_of("Unheard:1#x@ann")}
        error = self.refused(grpc.StatusCode.NOT_FOUND, *check, unknown)
        self.assertEqual(reason(error), 'Unknown namespace with name "Unheard".')
        for token in ("x", "CAc"):
            body = {"tuple": tuple_of("Doc:1#view@ann"), "snaptoken": token}
            self.refused(grpc.StatusCode.INVALID_ARGUMENT, *check, body)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, *check, {})
        large = {"tuple": {**tuple_of("Doc:1#view@ann"), "object": "x" * (1 << 20)}}
        self.refused(grpc.StatusCode.OUT_OF_RANGE, *check, large)
        body = {"relation_query": {}, "page_token": "forged"}
        self.refused(
            grpc.StatusCode.INVALID_ARGUMENT, f"{RTS}.ReadService", "ListRelationTuples", body
        )

    def test_public_listener_asks_for_a_key(self):
        request = urllib.request.Request(
            CLUSTER.admin[0] + "/cluster/apikeys",
            data=json.dumps({"name": "test", "scopes": ["permission:read"]}).encode(), method="POST",
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            key = json.load(answer)["key"]
        for url in CLUSTER.public:
            known = Node(target(CLUSTER.admin[0]))
            stranger = Node(target(url))
            stranger.pool = known.pool
            with self.assertRaises(grpc.RpcError) as refused:
                stranger.call(f"{RTS}.NamespacesService", "ListNamespaces")
            self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
            holder = Node(target(url), key)
            holder.pool = known.pool
            found = holder.call(f"{RTS}.NamespacesService", "ListNamespaces")
            self.assertEqual(len(found["namespaces"]), 3)
            with self.assertRaises(grpc.RpcError) as refused:
                holder.call(
                    f"{RTS}.WriteService", "TransactRelationTuples",
                    {"relation_tuple_deltas": []},
                )
            self.assertEqual(refused.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
            self.assertEqual(stranger.call(HEALTH, "Check"), {"status": "SERVING"})
            for node in (known, stranger, holder):
                node.close()


if __name__ == "__main__":
    unittest.main()
