// The browser asks a provider itself (FedCM), in a real browser and by its own dialogue: the
// provider is here, on localhost, which browsers trust as they do HTTPS.

import assert from "node:assert/strict"
import { generateKeyPairSync, sign } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"

import { freePort } from "./node.mjs"
import { at, shot, town } from "./visitor.mjs"

const port = await freePort()
const issuer = `http://localhost:${port}`
const directory = mkdtempSync(join(tmpdir(), "cardea-fedcm-"))
const config = join(directory, "cardea.toml")
writeFileSync(
  config,
  `[outbound]
plain_http = true
allowed_ranges = ["127.0.0.1", "::1"]
[oidc.idp]
label = "Idp"
issuer_url = "${issuer}"
client_id = "cardea"
fedcm_config_url = "${issuer}/fedcm.json"
`,
)

const { visitor, open, url } = town({ CARDEA_CONFIG: config })
const key = generateKeyPairSync("rsa", { modulusLength: 2048 })
// What the provider was asked for tokens with.
const asked = []

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url")
function token(nonce) {
  const now = Math.floor(Date.now() / 1000)
  const person = { sub: "ann", email: "ann@example.org", email_verified: true }
  const claims = { iss: issuer, aud: "cardea", iat: now, exp: now + 300, nonce, ...person }
  const message = `${part({ alg: "RS256", kid: "k" })}.${part(claims)}`
  return `${message}.${sign("sha256", Buffer.from(message), key.privateKey).toString("base64url")}`
}

const answers = {
  "/.well-known/openid-configuration": () => ({
    issuer,
    authorization_endpoint: `${issuer}/auth`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
  }),
  "/jwks": () => ({ keys: [{ ...key.publicKey.export({ format: "jwk" }), kid: "k", use: "sig" }] }),
  "/.well-known/web-identity": () => ({ provider_urls: [`${issuer}/fedcm.json`] }),
  "/fedcm.json": () => ({
    accounts_endpoint: "/accounts",
    id_assertion_endpoint: "/assertion",
    login_url: "/login",
  }),
  "/accounts": () => ({ accounts: [{ id: "ann", name: "Ann", email: "ann@example.org" }] }),
  "/assertion": (form) => {
    const params = JSON.parse(form.get("params") ?? "{}")
    asked.push({ client: form.get("client_id"), account: form.get("account_id"), params })
    return { token: token(params.nonce ?? form.get("nonce")) }
  },
}

const provider = createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) {
    chunks.push(chunk)
  }
  const { pathname } = new URL(request.url, issuer)
  const answer = answers[pathname]
  if (!answer) {
    response.writeHead(200, { "content-type": "text/html" })
    response.end(`<h1>The provider's own page</h1>`)
    return
  }
  response.writeHead(200, {
    "content-type": "application/json",
    "access-control-allow-origin": request.headers.origin ?? "*",
    "access-control-allow-credentials": "true",
    "set-login": "logged-in",
  })
  response.end(JSON.stringify(answer(new URLSearchParams(Buffer.concat(chunks).toString()))))
})

before(() => new Promise((resolve) => provider.listen(port, "localhost", resolve)))
after(() => {
  provider.close()
  provider.closeAllConnections()
  rmSync(directory, { recursive: true, force: true })
})

// A visitor whose dialogues of the browser are answered so.
async function answering(dialogue) {
  const visiting = await visitor()
  const session = await visiting.context.newCDPSession(visiting.page)
  const shown = []
  session.on("FedCm.dialogShown", async (event) => {
    shown.push(event)
    await dialogue(session, event)
  })
  await session.send("FedCm.enable", { disableRejectionDelay: true })
  return { ...visiting, shown }
}

const button = (page) => page.getByRole("button", { name: "Sign in with Idp" })
const loud = (page) => {
  const said = []
  page.on("console", (message) => said.push(message.text()))
  page.on("pageerror", (error) => said.push(`${error}`))
  return said
}

test("somebody chooses an account in the browser's dialogue and is signed in", async () => {
  const choose = (session, { dialogId }) =>
    session.send("FedCm.selectAccount", { dialogId, accountIndex: 0 })
  const { page, shown, close } = await answering(choose)
  const said = loud(page)
  await open(page, "/self-service/login/browser")
  await shot(page, "fedcm-login")
  await button(page).click()
  await page.waitForURL(url("/ui/welcome"), { timeout: 15_000 }).catch((error) => {
    throw new Error(`${error}\n${page.url()}\n${said.join("\n")}\n${JSON.stringify(shown)}`)
  })
  assert.equal(shown[0].accounts[0].email, "ann@example.org")
  assert.match(await page.textContent("main"), /ann@example\.org/)
  const [{ client, account, params }] = asked
  assert.deepEqual([client, account], ["cardea", "ann"])
  assert.ok(params.nonce.length > 60, JSON.stringify(params))
  await close()
})

test("who would rather not is led to the provider's own page", async () => {
  const dismiss = (session, { dialogId }) => session.send("FedCm.dismissDialog", { dialogId })
  const { page, shown, close } = await answering(dismiss)
  await open(page, "/self-service/login/browser")
  await button(page).click()
  await page.waitForURL((to) => to.origin === issuer && to.pathname === "/auth")
  assert.equal(shown.length, 1)
  await close()
})

test("a browser that cannot ask is led to the provider's own page", async () => {
  const { page, shown, close } = await answering(() => {})
  await page.addInitScript(() => delete window.IdentityCredential)
  await open(page, "/self-service/login/browser")
  await button(page).click()
  await page.waitForURL((to) => to.origin === issuer && to.pathname === "/auth")
  assert.equal(shown.length, 0)
  assert.equal(at(page), "/auth")
  await close()
})
