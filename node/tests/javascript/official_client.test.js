// The official JavaScript client of Ory (@ory/client), as it is published, on every node
// of a cluster: what is written through one node is read through the others at once.
//
//   CARDEA_PUBLIC_URLS, CARDEA_ADMIN_URLS   three each, apart by spaces

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { Configuration, FrontendApi, IdentityApi } from "@ory/client";

const PASSWORD = "correct horse battery staple";
// The MD5 of "password", as another system kept it.
const MD5 = "$md5$X03MO1qnZdYdgyfeuILPmQ==";
const urls = (name) => (process.env[name] ?? "").split(/\s+/).filter(Boolean);
const configured = (url) => new Configuration({ basePath: url });
const frontend = urls("CARDEA_PUBLIC_URLS").map((url) => new FrontendApi(configured(url)));
const identity = urls("CARDEA_ADMIN_URLS").map((url) => new IdentityApi(configured(url)));
assert.equal(frontend.length, 3, "three nodes are needed");
assert.equal(identity.length, 3, "three nodes are needed");

const address = () => `person-${randomUUID().slice(0, 13)}@example.org`;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

async function refused(status, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.response?.status, status, JSON.stringify(error.response?.data));
    assert.equal(typeof error.response.data.error.message, "string");
    return true;
  });
}

/** What the specification requires of an identity. */
function isIdentity(body) {
  assert.match(body.id, UUID);
  assert.equal(typeof body.schema_id, "string");
  assert.match(body.schema_url, /^https?:\/\//);
  assert.ok(["active", "inactive"].includes(body.state));
  assert.equal(typeof body.traits, "object");
  assert.ok(!Number.isNaN(Date.parse(body.created_at)));
  return body;
}

/** What the specification requires of a session. */
function isSession(body) {
  assert.match(body.id, UUID);
  assert.equal(typeof body.active, "boolean");
  assert.ok(["aal0", "aal1", "aal2"].includes(body.authenticator_assurance_level));
  assert.ok(Array.isArray(body.authentication_methods));
  return body;
}

async function create(node, traits, more = {}) {
  const createIdentityBody = {
    schema_id: "default",
    traits,
    credentials: { password: { config: { password: PASSWORD } } },
    ...more,
  };
  const { data, status } = await identity[node].createIdentity({ createIdentityBody });
  assert.equal(status, 201);
  return isIdentity(data);
}

async function logIn(node, email, password = PASSWORD) {
  const { data: flow } = await frontend[node].createNativeLoginFlow();
  assert.equal(flow.type, "api");
  const { data } = await frontend[(node + 1) % 3].updateLoginFlow({
    flow: flow.id,
    updateLoginFlowBody: { method: "password", identifier: email, password },
  });
  isSession(data.session);
  return data;
}

test("somebody signs up on one node, and is recognised on all until it logs out", async () => {
  const email = address();
  const { data: flow } = await frontend[0].createNativeRegistrationFlow();
  const { data: done } = await frontend[1].updateRegistrationFlow({
    flow: flow.id,
    updateRegistrationFlowBody: { method: "password", password: PASSWORD, traits: { email } },
  });
  isIdentity(done.identity);
  const token = done.session_token;
  for (const node of frontend) {
    const { data } = await node.toSession({ xSessionToken: token });
    assert.equal(isSession(data).identity.id, done.identity.id);
    assert.ok(data.active);
  }
  await frontend[2].performNativeLogout({ performNativeLogoutBody: { session_token: token } });
  for (const node of frontend) await refused(401, () => node.toSession({ xSessionToken: token }));
});

test("identities are created, found, changed and deleted on any node", async () => {
  const email = address();
  const external = `crm-${randomUUID()}`;
  const organization = randomUUID();
  const made = await create(0, { email }, { external_id: external, organization_id: organization });
  assert.equal(made.external_id, external);
  assert.equal(made.organization_id, organization);
  const { data: read } = await identity[1].getIdentity({ id: made.id });
  assert.deepEqual(isIdentity(read).traits, { email });
  const { data: by } = await identity[2].getIdentityByExternalID({ externalID: external });
  assert.equal(by.id, made.id);
  for (const query of [
    { credentialsIdentifier: email },
    { previewCredentialsIdentifierSimilar: email.slice(0, 16) },
    { organizationId: organization },
    { ids: [made.id] },
  ]) {
    const { data } = await identity[2].listIdentities(query);
    assert.ok(data.some((one) => one.id === made.id), JSON.stringify(query));
  }
  const { data: patched } = await identity[1].patchIdentity({
    id: made.id,
    jsonPatch: [{ op: "add", path: "/metadata_public", value: { plan: "gold" } }],
  });
  assert.deepEqual(patched.metadata_public, { plan: "gold" });
  const { data: updated } = await identity[0].updateIdentity({
    id: made.id,
    updateIdentityBody: { schema_id: "default", state: "inactive", traits: { email } },
  });
  assert.equal(updated.state, "inactive");
  await refused(401, () => logIn(2, email));
  const { status } = await identity[2].deleteIdentity({ id: made.id });
  assert.equal(status, 204);
  await refused(404, () => identity[0].getIdentity({ id: made.id }));
});

test("a batch is imported with hashes of another system, and a copy of it fails", async () => {
  const emails = [address(), address()];
  const identities = emails.map((email) => ({
    patch_id: randomUUID(),
    create: {
      schema_id: "default",
      traits: { email },
      credentials: { password: { config: { hashed_password: MD5 } } },
    },
  }));
  const patchIdentitiesBody = { identities };
  const { data } = await identity[0].batchPatchIdentities({ patchIdentitiesBody });
  assert.deepEqual(data.identities.map((item) => item.action), ["create", "create"]);
  assert.deepEqual(data.identities.map((i) => i.patch_id), identities.map((i) => i.patch_id));
  await logIn(1, emails[0], "password");
  await logIn(2, emails[1], "password");
  await refused(409, () => identity[1].batchPatchIdentities({ patchIdentitiesBody }));
});

test("sessions are listed, extended and ended by administrators", async () => {
  const email = address();
  const made = await create(0, { email });
  const first = await logIn(0, email);
  const second = await logIn(1, email);
  const { data: listed } = await identity[2].listIdentitySessions({ id: made.id });
  assert.deepEqual(
    listed.map((session) => isSession(session).id).sort(),
    [first.session.id, second.session.id].sort(),
  );
  const all = await identity[1].listSessions({ active: true, expand: ["identity"], pageSize: 10 });
  assert.ok(all.data.length > 0);
  all.data.forEach(isSession);
  const { data: one } = await identity[0].getSession({
    id: first.session.id,
    expand: ["identity", "devices"],
  });
  assert.equal(one.identity.id, made.id);
  assert.equal(one.devices.length, 1);
  const { data: extended } = await identity[1].extendSession({ id: first.session.id });
  isSession(extended);
  await identity[2].disableSession({ id: first.session.id });
  await identity[0].deleteIdentitySessions({ id: made.id });
  for (const token of [first.session_token, second.session_token]) {
    for (const node of frontend) await refused(401, () => node.toSession({ xSessionToken: token }));
  }
  await refused(400, () => identity[1].deleteIdentityCredentials({ id: made.id, type: "password" }));
  await refused(404, () => identity[1].deleteIdentityCredentials({ id: made.id, type: "totp" }));
});

test("an administrator hands out what lets somebody in", async () => {
  const email = address();
  const made = await create(1, { email });
  const { data: link } = await identity[0].createRecoveryLinkForIdentity({
    createRecoveryLinkForIdentityBody: { identity_id: made.id, expires_in: "1h" },
  });
  const followed = await fetch(link.recovery_link, {
    redirect: "manual",
    headers: { accept: "text/html" },
  });
  assert.equal(followed.status, 303);
  assert.match(followed.headers.get("location"), /settings/);
  assert.match(followed.headers.get("set-cookie"), /ory_kratos_session=/);
  const { data: code } = await identity[2].createRecoveryCodeForIdentity({
    createRecoveryCodeForIdentityBody: { identity_id: made.id, flow_type: "api" },
  });
  assert.match(code.recovery_code, /^\d{6}$/);
});

test("schemas are read", async () => {
  const { data: schemas } = await identity[0].listIdentitySchemas();
  assert.ok(schemas.some((schema) => schema.id === "default"));
  const { data: schema } = await identity[2].getIdentitySchema({ id: "default" });
  assert.ok(schema.properties.traits);
});
