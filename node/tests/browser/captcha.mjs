// Proof of work in a real browser: the page does it by itself, and nobody signs up without.

import assert from "node:assert/strict"
import { test } from "node:test"

import { at, press, shot, town } from "./visitor.mjs"

const { visitor, open, url } = town({
  CARDEA_CAPTCHA_FLOWS: "registration,login",
  CARDEA_CAPTCHA_BITS: "16",
})

test("a page works while its user types, and a form that is sent at once waits", async () => {
  const { page, close } = await visitor()
  await open(page, "/self-service/registration/browser")
  await page.getByLabel("Email").fill("ann@example.org")
  await page.getByLabel("Password").fill("correct horse battery staple")
  await press(page, "Create account")
  assert.equal(at(page), "/ui/welcome")
  await page.context().clearCookies()
  await open(page, "/self-service/login/browser")
  await page.waitForFunction(() => document.querySelector("[name=captcha_proof]").value !== "")
  await shot(page, "captcha-login")
  await page.getByLabel("Email").fill("ann@example.org")
  await page.getByLabel("Password").fill("correct horse battery staple")
  await press(page, "Sign in")
  assert.equal(at(page), "/ui/welcome")
  await close()
})

test("a program that does no work signs nobody up, and one that does it does", async () => {
  const begun = await (await fetch(url("/self-service/registration/api"))).json()
  const value = (name) => begun.ui.nodes.find((node) => node.attributes.name === name)
  assert.match(value("captcha_challenge").attributes.value, /^sha-256\.16\./)
  assert.equal(value("captcha_proof").group, "captcha")
  const send = (more) =>
    fetch(begun.ui.action, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        method: "password",
        traits: { email: "bob@example.org" },
        password: "correct horse battery staple",
        ...more,
      }),
    })
  const refused = await send({})
  assert.equal(refused.status, 400)
  assert.equal((await refused.json()).ui.messages[0].id, 4000038)
  const { createHash } = await import("node:crypto")
  let proof = 0
  const first = () => createHash("sha256").update(`${begun.id}.${proof}`).digest().readUInt16BE(0)
  while (first() !== 0) {
    proof++
  }
  assert.equal((await send({ captcha_proof: `${proof}` })).status, 200)
})
