// Social sign-in over HTTP, against a certified OpenID provider (npm oidc-provider) and a
// real node, both on loopback. CARDEA_BINARY names the node.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Provider } from "oidc-provider";

const BINARY = process.env.CARDEA_BINARY;
const PASSWORD = "correct horse battery staple";
const MAPPER = `local claims = std.extVar('claims');
{ identity: {
  traits: { email: claims.email },
  verified_addresses: if claims.email_verified then [{ via: 'email', value: claims.email }] else [],
} }`;

const people = {
  ann: { email: "ann@example.org", email_verified: true },
  ann2: { email: "ann2@example.org", email_verified: true },
  bob: { email: "bob@example.org", email_verified: false },
  dave: { email: "dave@example.org", email_verified: false },
  carol: { email: "carol@corp.example", email_verified: true, amr: ["pwd", "mfa"] },
};
const CORP = "6bb1c7d1-3b3e-4995-9e09-35649dc45a2b";

let directory, node, idp, urls, issuer, who;

function freePort() {
  return new Promise((resolve, reject) => {
    const socket = createSocket();
    socket.once("error", reject);
    socket.listen(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}

// A browser without a screen: it keeps cookies, and follows nothing by itself.
class Browser {
  jar = new Map();

  async ask(url, options = {}) {
    const origin = new URL(url).origin;
    const cookies = this.jar.get(origin) ?? new Map();
    const headers = { accept: "text/html", ...options.headers };
    if (cookies.size > 0) {
      headers.cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    }
    const answer = await fetch(url, { redirect: "manual", ...options, headers });
    for (const line of answer.headers.getSetCookie()) {
      const [pair] = line.split(";");
      const at = pair.indexOf("=");
      const [name, value] = [pair.slice(0, at), pair.slice(at + 1)];
      if (value === "" || /max-age=0|1970/i.test(line)) cookies.delete(name);
      else cookies.set(name, value);
    }
    this.jar.set(origin, cookies);
    return answer;
  }

  // Follows redirects until something is shown, or the URL is one to stop at.
  async follow(url, stop = () => false) {
    for (let hops = 0; hops < 20; hops += 1) {
      if (stop(url)) return { url };
      const answer = await this.ask(url);
      const location = answer.headers.get("location");
      if (!location) return { url, answer, text: await answer.text() };
      url = new URL(location, url).href;
    }
    throw new Error("redirected without end");
  }

  async json(url, options = {}) {
    const headers = { accept: "application/json", ...options.headers };
    const answer = await this.ask(url, { ...options, headers });
    const text = await answer.text();
    return { status: answer.status, body: text ? JSON.parse(text) : null };
  }

  // Begins a flow as a script does.
  async begin(kind, query = "") {
    const flow = await this.json(`${urls.public}/self-service/${kind}/browser${query}`);
    assert.equal(flow.status, 200, JSON.stringify(flow.body));
    return flow.body;
  }

  async submit(flow, body) {
    const csrf = flow.ui.nodes.find((n) => n.attributes.name === "csrf_token");
    return this.json(flow.ui.action, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ csrf_token: csrf.attributes.value, ...body }),
    });
  }

  // Where the provider sends it back to, once it has said who it is there.
  async visit(flow, body, account) {
    const away = await this.submit(flow, body);
    assert.equal(away.status, 422, JSON.stringify(away.body));
    assert.equal(away.body.error.id, "browser_location_change_required");
    who = account;
    const back = (url) => url.startsWith(`${urls.public}/self-service/methods/oidc/callback/`);
    const { url } = await this.follow(away.body.redirect_browser_to, back);
    return url;
  }

  async come(account, provider = "idp", query = "") {
    const flow = await this.begin("login", query);
    const url = await this.visit(flow, { method: "oidc", provider }, account);
    return this.follow(url);
  }

  async whoami() {
    return this.json(`${urls.public}/sessions/whoami`);
  }
}

async function until(what, done) {
  for (const start = Date.now(); Date.now() - start < 60_000; ) {
    if (await done().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what}: not within a minute`);
}

before(async () => {
  assert.ok(BINARY, "CARDEA_BINARY is not set");
  directory = mkdtempSync(join(tmpdir(), "cardea-social-"));
  const [at, pub, admin, cluster] = await Promise.all([1, 2, 3, 4].map(freePort));
  issuer = `http://127.0.0.1:${at}`;
  urls = { public: `http://127.0.0.1:${pub}`, admin: `http://127.0.0.1:${admin}` };
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "cardea",
        client_secret: "s3cret",
        redirect_uris: ["idp", "corp"].map(
          (id) => `${urls.public}/self-service/methods/oidc/callback/${id}`,
        ),
      },
    ],
    pkce: { required: () => true },
    claims: { openid: ["sub", "amr"], email: ["email", "email_verified"] },
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/enter/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({
        accountId: ctx.oidc.session.accountId,
        clientId: ctx.oidc.client.clientId,
      });
      grant.addOIDCScope("openid email profile");
      await grant.save();
      return grant;
    },
  });
  const callback = provider.callback();
  idp = createServer((request, response) => {
    if (!request.url.startsWith("/enter/")) return callback(request, response);
    if (who === null) {
      const error = "access_denied";
      return provider.interactionFinished(request, response, { error, error_description: "<b>no</b>" });
    }
    const login = { accountId: who, amr: people[who]?.amr };
    return provider.interactionFinished(request, response, { login });
  });
  await new Promise((resolve) => idp.listen(at, "127.0.0.1", resolve));
  const config = join(directory, "cardea.toml");
  writeFileSync(join(directory, "mapper.jsonnet"), MAPPER);
  writeFileSync(join(directory, "secret"), "s3cret\n", { mode: 0o600 });
  writeFileSync(join(directory, "key"), "5e".repeat(32), { mode: 0o600 });
  writeFileSync(
    config,
    `[node]\nregion = "eu-central"\ndata_dir = "data"
[cluster]\nlisten = "127.0.0.1:${cluster}"\ntls = "off"
[public]\nlisten = "127.0.0.1:${pub}"
[admin]\nlisten = "127.0.0.1:${admin}"
[sessions]\ncookie_secure = false
[secrets]\nmaster_key_file = "key"
[outbound]\nplain_http = true\nallowed_ranges = ["127.0.0.1"]
[oidc.idp]\nlabel = "Idp"\nissuer_url = "${issuer}"\nclient_id = "cardea"
client_secret_file = "secret"\nmapper = "mapper.jsonnet"\nscope = ["openid", "email"]
authoritative_domains = ["example.org"]
[organizations."${CORP}"]\nlabel = "Corp"\ndomains = ["corp.example"]
[oidc.corp]\nlabel = "Corp"\nissuer_url = "${issuer}"\nclient_id = "cardea"
client_secret_file = "secret"\nmapper = "mapper.jsonnet"\nscope = ["openid", "email"]
organization_id = "${CORP}"\nupdate_identity_on_login = "automatic"\naal2_amr_values = ["mfa"]
[flows]\nverification = true
[[hooks]]\nflow = "login"\nhook = "b2b_sso"
[[hooks]]\nflow = "login"\nmethod = "oidc"\nhook = "b2b_sso"
[[hooks]]\nflow = "login"\nmethod = "oidc"\nhook = "require_verified_address"
[[hooks]]\nflow = "registration"\nhook = "b2b_sso"\n`,
  );
  const environment = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith("CARDEA_")),
  );
  node = spawn(BINARY, ["start", "--config", config], { stdio: "inherit", env: environment });
  await until("the node answers", async () => {
    const made = spawnSync(BINARY, ["--admin-url", urls.admin, "init"], { env: environment });
    return made.status === 0;
  });
  await until("the node is ready", async () => (await fetch(`${urls.public}/health/ready`)).ok);
});

after(async () => {
  node?.kill("SIGTERM");
  if (node) await new Promise((resolve) => node.once("exit", resolve));
  idp?.closeAllConnections();
  idp?.close();
  if (directory) rmSync(directory, { recursive: true, force: true });
});

test("a stranger signs up, and signs in again by the same account", async () => {
  const first = new Browser();
  await first.come("ann");
  const session = await first.whoami();
  assert.equal(session.status, 200, JSON.stringify(session.body));
  assert.equal(session.body.identity.traits.email, "ann@example.org");
  assert.equal(session.body.identity.verifiable_addresses[0].verified, true);
  assert.equal(session.body.authentication_methods[0].method, "oidc");
  const again = new Browser();
  await again.come("ann");
  assert.equal((await again.whoami()).body.identity.id, session.body.identity.id);
  const kept = await again.json(
    `${urls.admin}/admin/identities/${session.body.identity.id}?include_credential=oidc`,
  );
  const [account] = kept.body.credentials.oidc.config.providers;
  assert.equal(account.subject, "ann");
  assert.ok(account.initial_access_token);
});

test("what comes back counts once, and in its own browser", async () => {
  const browser = new Browser();
  const flow = await browser.begin("login");
  const url = await browser.visit(flow, { method: "oidc", provider: "idp" }, "ann");
  const stranger = new Browser();
  await stranger.follow(url);
  assert.equal((await stranger.whoami()).status, 401);
  await browser.follow(url);
  assert.equal((await browser.whoami()).status, 200);
  const replayed = await browser.ask(url, { headers: { accept: "text/html" } });
  assert.match(replayed.headers.get("location"), /\/ui\/error\?id=/);
});

test("an account is linked and unlinked in settings", async () => {
  const browser = new Browser();
  await browser.come("ann");
  const id = (await browser.whoami()).body.identity.id;
  let flow = await browser.begin("settings");
  const names = (name) => flow.ui.nodes.filter((n) => n.attributes.name === name);
  assert.equal(names("unlink").length, 1);
  const last = await browser.submit(flow, { method: "oidc", unlink: "idp" });
  assert.equal(last.status, 400, "the last way in stays");
  // The provider remembers who was signed in there.
  browser.jar.delete(new URL(issuer).origin);
  const url = await browser.visit(flow, { method: "oidc", link: "idp" }, "ann2");
  await browser.follow(url);
  flow = await browser.begin("settings");
  assert.equal(names("unlink").length, 2);
  const other = new Browser();
  await other.come("ann2");
  assert.equal((await other.whoami()).body.identity.id, id);
  const unlinked = await browser.submit(flow, { method: "oidc", unlink: "idp:ann2" });
  assert.equal(unlinked.status, 200, JSON.stringify(unlinked.body));
  const stranger = new Browser();
  await stranger.come("ann2");
  assert.notEqual((await stranger.whoami()).body.identity.id, id);
});

test("an address that the provider did not verify links nobody", async () => {
  const made = await new Browser().json(`${urls.admin}/admin/identities`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      schema_id: "default",
      traits: { email: "bob@example.org" },
      verifiable_addresses: [
        { via: "email", value: "bob@example.org", verified: true, status: "completed" },
      ],
      credentials: { password: { config: { password: PASSWORD } } },
    }),
  });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  const browser = new Browser();
  const { url } = await browser.come("bob");
  assert.equal((await browser.whoami()).status, 401);
  const id = new URL(url).searchParams.get("flow");
  const flow = (await browser.json(`${urls.public}/self-service/login/flows?id=${id}`)).body;
  assert.ok(flow.ui.messages.some((message) => message.id === 1010016));
  const done = await browser.submit(flow, {
    method: "password",
    identifier: "bob@example.org",
    password: PASSWORD,
  });
  assert.equal(done.status, 200, JSON.stringify(done.body));
  const linked = new Browser();
  await linked.come("bob");
  assert.equal((await linked.whoami()).body.identity.id, made.body.id);
});

test("a provider's refusal is shown as text", async () => {
  const browser = new Browser();
  const { text } = await browser.come(null);
  assert.match(text, /did not let you in: access_denied/);
  assert.doesNotMatch(text, /<b>no/);
});

test("a member of an organization comes through its provider alone, as who it is there", async () => {
  const through = `?organization=${CORP}`;
  const first = new Browser();
  await first.come("carol", "corp", through);
  const session = (await first.whoami()).body;
  assert.equal(session.identity.organization_id, CORP);
  assert.equal(session.authenticator_assurance_level, "aal2", JSON.stringify(session));
  const [method] = session.authentication_methods;
  assert.equal(method.organization, CORP);
  assert.deepEqual([method.provider, method.aal], ["corp", "aal2"]);
  assert.deepEqual(method.upstream_amr, ["pwd", "mfa"]);

  // No other flow offers it, and its settings offer no way round it.
  const others = await new Browser().begin("login");
  assert.ok(!others.ui.nodes.some((n) => n.attributes.value === "corp"));
  const settings = await first.begin("settings");
  assert.ok(settings.ui.messages.some((message) => message.id === 1050023));
  const groups = new Set(settings.ui.nodes.map((n) => n.group));
  assert.ok(!groups.has("password") && !groups.has("oidc"), [...groups].join());
  const refused = await first.submit(settings, { method: "password", password: PASSWORD });
  assert.equal(refused.status, 400, JSON.stringify(refused.body));
  const outside = { method: "profile", traits: { email: "carol@elsewhere.example" } };
  const moved = await first.submit(settings, outside);
  assert.equal(moved.status, 400, JSON.stringify(moved.body));
  assert.match(JSON.stringify(moved.body.ui.messages), /Corp is one of its own domains/);
  const page = await first.follow(`${urls.public}/self-service/settings/browser`);
  assert.equal(page.answer.status, 200, page.text);
  assert.match(page.text, /carol@corp\.example/);

  // It becomes what its provider says, and nothing that is not its organization's.
  people.carol.email = "carol.new@corp.example";
  await new Browser().come("carol", "corp", through);
  assert.equal((await first.whoami()).body.identity.traits.email, "carol.new@corp.example");
  people.carol = { ...people.carol, email: "carol@elsewhere.example", amr: ["pwd"] };
  const away = new Browser();
  const { text } = await away.come("carol", "corp", through);
  assert.match(text, /own domains/);
  assert.equal((await away.whoami()).status, 401);
  people.carol.email = "carol.new@corp.example";
  await away.come("carol", "corp", through);
  assert.equal((await away.whoami()).body.authenticator_assurance_level, "aal1");
});

test("who has no verified address is led to verify one, and is not let in before", async () => {
  await new Browser().come("dave");
  const again = new Browser();
  const { url, answer } = await again.come("dave");
  assert.match(url, /\/ui\/verification\?flow=/);
  assert.equal(answer.status, 200);
  assert.equal((await again.whoami()).status, 401);
});

test("a provider is tried, an organization's too, and nobody is signed in by it", async () => {
  people.erin = { email: "erin@example.org", email_verified: true };
  const tryOut = async (provider, account) => {
    const made = await new Browser().json(`${urls.admin}/admin/test-login-flows`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ provider_id: provider }),
    });
    assert.equal(made.status, 201, JSON.stringify(made.body));
    const browser = new Browser();
    const url = await browser.visit(made.body, { method: "oidc", provider }, account);
    const { text } = await browser.follow(url);
    assert.match(text, /What came of the test/);
    assert.equal((await browser.whoami()).status, 401);
    const read = `${urls.public}/self-service/login/flows?id=${made.body.id}`;
    assert.equal((await new Browser().json(read)).status, 403);
    const told = await browser.json(read);
    assert.equal(told.status, 200, JSON.stringify(told.body));
    return { text, told: told.body.test_context.debug_payload };
  };
  for (const provider of ["idp", "corp"]) {
    const { told } = await tryOut(provider, "erin");
    assert.equal(told.error, undefined, JSON.stringify(told));
    assert.equal(told.id_token_claims.sub, "erin");
    assert.equal(told.jsonnet_output.identity.traits.email, "erin@example.org");
  }
  const found = `${urls.admin}/admin/identities?credentials_identifier=erin@example.org`;
  assert.deepEqual((await new Browser().json(found)).body, []);
  const { text, told } = await tryOut("idp", null);
  assert.deepEqual([told.error.step, told.error.reason], ["authorize", "access_denied"]);
  assert.doesNotMatch(text, /<b>no/);
});
