// Permissions from web pages of other origins: gRPC-Web and REST, as a browser lets a
// page send and read them. One page's origin is listed, another's is not.

import assert from "node:assert/strict"
import { createServer } from "node:http"
import { after, before, test } from "node:test"
import { chromium } from "playwright-core"

import { freePort, start } from "./node.mjs"

// A page on a port, and so an origin, of its own.
const page = (title) =>
  new Promise((resolve) => {
    const server = createServer((_, answer) => {
      answer.setHeader("content-type", "text/html").end(`<title>${title}</title>`)
    })
    server.listen(0, "127.0.0.1", () => {
      const origin = `http://localhost:${server.address().port}`
      resolve({ origin, close: () => server.close() })
    })
  })

let node, read, listed, foreign, key, browser

before(async () => {
  listed = await page("listed")
  foreign = await page("foreign")
  const port = await freePort()
  read = `http://127.0.0.1:${port}`
  node = await start({
    CARDEA_PERMISSION_READ_LISTEN: `127.0.0.1:${port}`,
    CARDEA_PERMISSION_CORS_ORIGINS: listed.origin,
    CARDEA_PUBLIC_CORS_ORIGINS: listed.origin,
  })
  const asked = async (method, path, body) => {
    const headers = { "content-type": "application/json" }
    const answer = await fetch(node.admin + path, { method, headers, body: JSON.stringify(body) })
    assert.ok(answer.ok, await answer.clone().text())
    return answer.json()
  }
  const text = "class User implements Namespace {}"
  await asked("PUT", "/admin/opl", { files: [{ name: "main.ts", text }], force: true })
  const made = await asked("POST", "/cluster/apikeys", { name: "page", scopes: ["permission:read"] })
  key = made.key
  browser = await chromium.launch({
    executablePath: process.env.CARDEA_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  })
})

after(async () => {
  await browser?.close()
  await node?.stop()
  listed?.close()
  foreign?.close()
})

// What a page finds out by a request of its own: `TypeError` is all that its browser
// says of an answer that it must not read.
async function from(origin, url, { method = "POST", headers = {}, frame = false, cookies = false } = {}) {
  const tab = await browser.newPage()
  await tab.goto(origin)
  const found = await tab.evaluate(
    async ([url, method, headers, frame, cookies]) => {
      try {
        const answer = await fetch(url, {
          method,
          headers,
          // An empty message of gRPC-Web.
          body: frame ? new Uint8Array(5) : undefined,
          credentials: cookies ? "include" : "same-origin",
        })
        const text = new TextDecoder().decode(await answer.arrayBuffer())
        const said = (name) => answer.headers.get(name)
        return { status: answer.status, grpc: said("grpc-status"), token: said("x-cardea-snaptoken"), text }
      } catch (error) {
        return { refused: error.name }
      }
    },
    [url, method, headers, frame, cookies],
  )
  await tab.close()
  return found
}

const LIST = "/ory.keto.relation_tuples.v1alpha2.NamespacesService/ListNamespaces"
const web = (shown) => ({
  headers: {
    "content-type": "application/grpc-web+proto",
    "x-grpc-web": "1",
    ...(shown ? { authorization: `Bearer ${shown}` } : {}),
  },
  frame: true,
})

test("a listed page calls Keto's port by gRPC-Web with a key, and not without", async () => {
  const found = await from(listed.origin, read + LIST, web(key))
  assert.equal(found.status, 200, JSON.stringify(found))
  assert.match(found.text, /User/)
  assert.match(found.text, /grpc-status:\s?0/)
  assert.ok(found.token, "the page may read the snaptoken")
  const stranger = await from(listed.origin, read + LIST, web())
  assert.equal(stranger.grpc, "16", "on loopback, where programs are trusted, a page is not")
})

test("a listed page reads REST on Keto's port and on the public one", async () => {
  for (const base of [read, node.url]) {
    const authorization = `Bearer ${key}`
    const found = await from(listed.origin, `${base}/namespaces`, { method: "GET", headers: { authorization } })
    assert.equal(found.status, 200, JSON.stringify(found))
    assert.deepEqual(JSON.parse(found.text).namespaces, [{ name: "User" }])
    const refused = await from(listed.origin, `${base}/namespaces`, { method: "GET" })
    assert.equal(refused.status, 401)
  }
})

test("cookies go to the public listener and not to Keto's port", async () => {
  const whoami = { method: "GET", cookies: true }
  const known = await from(listed.origin, `${node.url}/sessions/whoami`, whoami)
  assert.equal(known.status, 401, "read, and nobody is logged in")
  const kept = await from(listed.origin, `${read}/health/alive`, whoami)
  assert.deepEqual(kept, { refused: "TypeError" })
})

test("a page that is not listed reads nothing, and none reads the admin listener", async () => {
  for (const base of [read, node.url]) {
    assert.deepEqual(await from(foreign.origin, base + LIST, web(key)), { refused: "TypeError" })
    const alive = await from(foreign.origin, `${base}/health/alive`, { method: "GET" })
    assert.deepEqual(alive, { refused: "TypeError" })
  }
  for (const origin of [listed.origin, foreign.origin]) {
    assert.deepEqual(await from(origin, node.admin + LIST, web(key)), { refused: "TypeError" })
  }
})
