// Permissions through Ory's npm clients for Keto, as they are published: @ory/keto-client
// over REST and @ory/keto-grpc-client over gRPC, every operation, spread over the nodes.
//
//   CARDEA_ADMIN_URLS   three, apart by spaces
//   CARDEA_KETO_PORTS   nine on this machine, or none: read, write, language of each node

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

const require = createRequire(import.meta.url);
const keto = require("@ory/keto-client");
// Its index leaves some of them out.
const rts = Object.assign(
  {},
  ...["relation_tuples", "check_service", "expand_service", "namespaces_service", "read_service", "version", "write_service"].flatMap(
    (name) =>
      ["pb", "grpc_pb"].map((kind) =>
        require(`@ory/keto-grpc-client/ory/keto/relation_tuples/v1alpha2/${name}_${kind}.js`),
      ),
  ),
);
const opl = require("@ory/keto-grpc-client/ory/keto/opl/v1alpha1/syntax_service_pb.js");
const oplService = require("@ory/keto-grpc-client/ory/keto/opl/v1alpha1/syntax_service_grpc_pb.js");
// The client's own gRPC: it takes no credentials of another.
const grpc = createRequire(require.resolve("@ory/keto-grpc-client"))("@grpc/grpc-js");

const list = (name) => (process.env[name] ?? "").split(/\s+/).filter(Boolean);
const admin = list("CARDEA_ADMIN_URLS");
assert.equal(admin.length, 3, "three nodes are needed");
const ketoPorts = list("CARDEA_KETO_PORTS");
const doors = [];
for (let at = 0; at < ketoPorts.length; at += 3) doors.push(ketoPorts.slice(at, at + 3));

const LANGUAGE = `
class User implements Namespace {}
class Group implements Namespace { related: { members: User[] } }
class Doc implements Namespace {
  related: { viewers: SubjectSet<Group, "members">[]; owners: User[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.viewers.includes(ctx.subject) || this.related.owners.includes(ctx.subject),
  }
}`;

before(async () => {
  const body = JSON.stringify({ files: [{ name: "main.ts", text: LANGUAGE }], force: true });
  const answer = await fetch(`${admin[0]}/admin/opl`, { method: "PUT", body });
  assert.equal(answer.status, 200);
});

const short = () => randomUUID().slice(0, 8);

function body(text) {
  const [, namespace, object, relation, subject] = /^([^:]*):([^#]*)#([^@]*)@(.*)$/.exec(text);
  const tuple = { namespace, object, relation };
  const set = /^\(([^:]*):([^#]*)#(.*)\)$/.exec(subject);
  if (!set) return { ...tuple, subject_id: subject };
  return { ...tuple, subject_set: { namespace: set[1], object: set[2], relation: set[3] } };
}

// REST

const apis = (Api) =>
  admin.map((basePath) => new Api(new keto.Configuration({ basePath })));

const query = (text) => {
  const { subject_id, subject_set, ...rest } = body(text);
  return {
    ...rest,
    subjectId: subject_id,
    subjectSetNamespace: subject_set?.namespace,
    subjectSetObject: subject_set?.object,
    subjectSetRelation: subject_set?.relation,
  };
};

test("REST: what one node wrote is checked on all", async () => {
  const [one, two, three] = apis(keto.RelationshipApi);
  const id = short();
  const made = await one.createRelationship({
    createRelationshipBody: body(`Group:g-${id}#members@ann`),
  });
  assert.equal(made.status, 201);
  assert.equal(made.data.subject_id, "ann");
  const patch = body(`Doc:d-${id}#viewers@(Group:g-${id}#members)`);
  const patched = await two.patchRelationships({
    relationshipPatch: [{ action: "insert", relation_tuple: patch }],
  });
  assert.equal(patched.status, 204);
  const [yes, no] = [`Doc:d-${id}#view@ann`, `Doc:d-${id}#view@eve`];
  for (const api of apis(keto.PermissionApi)) {
    assert.equal((await api.checkPermission(query(yes))).data.allowed, true);
    assert.equal((await api.checkPermission(query(no))).data.allowed, false);
    assert.equal((await api.checkPermissionOrError(query(yes))).data.allowed, true);
    await assert.rejects(api.checkPermissionOrError(query(no)), (error) => {
      return error.response.status === 403 && error.response.data.allowed === false;
    });
    const posted = await api.postCheckPermission({ postCheckPermissionBody: body(yes) });
    assert.equal(posted.data.allowed, true);
    const strict = await api.postCheckPermissionOrError({
      postCheckPermissionOrErrorBody: body(yes),
    });
    assert.equal(strict.data.allowed, true);
    const batch = await api.batchCheckPermission({
      batchCheckPermissionBody: { tuples: [body(yes), body(no), body("Unheard:1#x@ann")] },
    });
    assert.deepEqual(batch.data.results.map((r) => r.allowed), [true, false, false]);
    assert.match(batch.data.results[2].error, /Unheard/);
    const tree = await api.expandPermissions({
      namespace: "Group", object: `g-${id}`, relation: "members",
    });
    assert.equal(tree.data.type, "union");
    assert.equal(tree.data.children[0].tuple.subject_id, "ann");
  }
  const deleted = await three.deleteRelationships({ namespace: "Group", object: `g-${id}` });
  assert.equal(deleted.status, 204);
  for (const api of apis(keto.PermissionApi)) {
    assert.equal((await api.checkPermission(query(yes))).data.allowed, false);
  }
});

test("REST: lists, namespaces, syntax, version, health", async () => {
  const relationships = apis(keto.RelationshipApi);
  const id = short();
  const patches = [0, 1, 2].map((at) => ({
    action: "insert", relation_tuple: body(`Group:l-${id}-${at}#members@${id}`),
  }));
  await relationships[0].patchRelationships({ relationshipPatch: patches });
  const found = [];
  let pageToken = "";
  do {
    const page = await relationships[1].getRelationships({
      pageSize: 2, pageToken, namespace: "Group", subjectId: id,
    });
    found.push(...page.data.relation_tuples.map((t) => t.object));
    pageToken = page.data.next_page_token;
  } while (pageToken);
  assert.deepEqual(found, [0, 1, 2].map((at) => `l-${id}-${at}`));
  for (const api of relationships) {
    const { data } = await api.listRelationshipNamespaces();
    assert.deepEqual(data.namespaces.map((n) => n.name), ["Doc", "Group", "User"]);
    assert.equal((await api.checkOplSyntax({ body: LANGUAGE })).data.errors, undefined);
    const bad = await api.checkOplSyntax({ body: "class A implements Namespace { x }" });
    assert.equal(bad.data.errors[0].start.Line, 1);
  }
  for (const api of apis(keto.MetadataApi)) {
    assert.match((await api.getVersion()).data.version, /^\d+\.\d+/);
    assert.equal((await api.isAlive()).data.status, "ok");
    assert.equal((await api.isReady()).data.status, "ok");
  }
});

const names = (of) => Object.keys(of).map((name) => name[0].toLowerCase() + name.slice(1));

test("every operation of both clients is called here", () => {
  const text = readFileSync(new URL(import.meta.url), "utf8");
  const operations = [];
  for (const Api of [keto.MetadataApi, keto.PermissionApi, keto.RelationshipApi]) {
    const own = Object.getOwnPropertyNames(Api.prototype);
    operations.push(...own.filter((name) => name !== "constructor"));
  }
  for (const kind of ["Check", "Expand", "Read", "Write", "Namespaces", "Version"]) {
    operations.push(...names(rts[`${kind}ServiceService`]));
  }
  operations.push(...names(oplService.SyntaxServiceService));
  assert.ok(operations.length > 20, operations.join());
  for (const operation of operations) assert.ok(text.includes(`.${operation}(`), operation);
});

// gRPC

const target = (url) => url.replace("http://", "");
const insecure = grpc.credentials.createInsecure();

function calls(client) {
  return new Proxy(client, {
    get: (of, name) =>
      (request) =>
        new Promise((resolve, reject) =>
          of[name](request, (error, answer) => (error ? reject(error) : resolve(answer))),
        ),
  });
}

function over(Client, addresses = admin.map(target)) {
  const clients = addresses.map((address) => new Client(address, insecure));
  after(() => clients.forEach((client) => client.close()));
  return clients.map(calls);
}

function subject(fields) {
  const made = new rts.Subject();
  if (fields.subject_id !== undefined) return made.setId(fields.subject_id);
  const { namespace, object, relation } = fields.subject_set;
  return made.setSet(
    new rts.SubjectSet().setNamespace(namespace).setObject(object).setRelation(relation),
  );
}

function tuple(text) {
  const fields = body(text);
  return new rts.RelationTuple()
    .setNamespace(fields.namespace)
    .setObject(fields.object)
    .setRelation(fields.relation)
    .setSubject(subject(fields));
}

const delta = (action, text) =>
  new rts.RelationTupleDelta().setAction(action).setRelationTuple(tuple(text));
const { ACTION_INSERT, ACTION_DELETE } = rts.RelationTupleDelta.Action;

test("gRPC: what one node wrote is checked on all", async () => {
  const writes = over(rts.WriteServiceClient);
  const id = short();
  const request = new rts.TransactRelationTuplesRequest().setRelationTupleDeltasList([
    delta(ACTION_INSERT, `Doc:d-${id}#viewers@(Group:g-${id}#members)`),
    delta(ACTION_INSERT, `Group:g-${id}#members@ann`),
  ]);
  const written = await writes[0].transactRelationTuples(request);
  const [token, other] = written.getSnaptokensList();
  assert.ok(token && token === other);
  const asks = (who) => new rts.CheckRequest().setTuple(tuple(`Doc:d-${id}#view@${who}`));
  for (const api of over(rts.CheckServiceClient)) {
    const answer = await api.check(asks("ann").setSnaptoken(token));
    assert.equal(answer.getAllowed(), true);
    assert.ok(answer.getSnaptoken());
    assert.equal((await api.check(asks("eve").setLatest(true))).getAllowed(), false);
    // As this client's older versions ask.
    const former = new rts.CheckRequest()
      .setNamespace("Doc").setObject(`d-${id}`).setRelation("view")
      .setSubject(new rts.Subject().setId("ann"));
    assert.equal((await api.check(former)).getAllowed(), true);
    const unheard = new rts.CheckRequest().setTuple(tuple("Unheard:1#x@ann"));
    await assert.rejects(api.check(unheard), { code: grpc.status.NOT_FOUND });
    const future = asks("ann").setSnaptoken("CAc");
    await assert.rejects(api.check(future), { code: grpc.status.INVALID_ARGUMENT });
  }
  const group = { subject_set: { namespace: "Group", object: `g-${id}`, relation: "members" } };
  for (const api of over(rts.ExpandServiceClient)) {
    const answer = await api.expand(new rts.ExpandRequest().setSubject(subject(group)));
    const tree = answer.getTree();
    assert.equal(tree.getNodeType(), rts.NodeType.NODE_TYPE_UNION);
    assert.equal(tree.getChildrenList()[0].getTuple().getSubject().getId(), "ann");
    assert.equal(tree.getChildrenList()[0].getSubject().getId(), "ann");
  }
  const revoked = await writes[1].transactRelationTuples(
    new rts.TransactRelationTuplesRequest().setRelationTupleDeltasList([
      delta(ACTION_DELETE, `Group:g-${id}#members@ann`),
    ]),
  );
  const at = revoked.getSnaptokensList()[0];
  for (const api of over(rts.CheckServiceClient)) {
    assert.equal((await api.check(asks("ann").setSnaptoken(at))).getAllowed(), false);
  }
});

test("gRPC: lists and deletes by query", async () => {
  const id = short();
  const [one, two] = over(rts.WriteServiceClient);
  const deltas = [0, 1, 2].map((at) => delta(ACTION_INSERT, `Group:q-${id}-${at}#members@${id}`));
  await one.transactRelationTuples(
    new rts.TransactRelationTuplesRequest().setRelationTupleDeltasList(deltas),
  );
  const all = new rts.RelationQuery()
    .setNamespace("Group").setRelation("members").setSubject(new rts.Subject().setId(id));
  const list = async (api) => {
    const found = [];
    const request = new rts.ListRelationTuplesRequest().setRelationQuery(all).setPageSize(2);
    do {
      const page = await api.listRelationTuples(request);
      found.push(...page.getRelationTuplesList().map((t) => t.getObject()));
      request.setPageToken(page.getNextPageToken());
    } while (request.getPageToken());
    return found;
  };
  const reads = over(rts.ReadServiceClient);
  for (const api of reads) {
    assert.deepEqual(await list(api), [0, 1, 2].map((at) => `q-${id}-${at}`));
  }
  await two.deleteRelationTuples(new rts.DeleteRelationTuplesRequest().setRelationQuery(all));
  for (const api of reads) assert.deepEqual(await list(api), []);
});

test("gRPC: namespaces, version, syntax, and the ports of Keto", async () => {
  for (const api of over(rts.NamespacesServiceClient)) {
    const { namespacesList } = (await api.listNamespaces(new rts.ListNamespacesRequest())).toObject();
    assert.deepEqual(namespacesList.map((n) => n.name), ["Doc", "Group", "User"]);
  }
  for (const api of over(rts.VersionServiceClient)) {
    const answer = await api.getVersion(new rts.GetVersionRequest());
    assert.match(answer.getVersion(), /^\d+\.\d+/);
  }
  const check = (api, text) =>
    api.check(new opl.CheckRequest().setContent(Buffer.from(text))).then((answer) =>
      answer.getParseErrorsList(),
    );
  for (const api of over(oplService.SyntaxServiceClient)) {
    assert.deepEqual(await check(api, LANGUAGE), []);
    const errors = await check(api, "class A implements Namespace { x }");
    assert.equal(errors[0].getStart().getLine(), 1);
  }
  for (const ports of doors) {
    const [read, write, language] = ports.map((port) => `127.0.0.1:${port}`);
    const [names] = over(rts.NamespacesServiceClient, [read]);
    await names.listNamespaces(new rts.ListNamespacesRequest());
    const [syntax] = over(oplService.SyntaxServiceClient, [language]);
    assert.deepEqual(await check(syntax, LANGUAGE), []);
    const [writes] = over(rts.WriteServiceClient, [write]);
    await writes.transactRelationTuples(new rts.TransactRelationTuplesRequest());
    const [elsewhere] = over(rts.WriteServiceClient, [read]);
    await assert.rejects(
      elsewhere.transactRelationTuples(new rts.TransactRelationTuplesRequest()),
      { code: grpc.status.UNIMPLEMENTED },
    );
  }
});
