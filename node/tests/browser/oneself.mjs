// Links in place of codes, and what somebody does with all that is held of it, in a real
// browser: recover on another device by the link that was mailed, change the address and
// verify it, take a copy along, and delete the account.

import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"

import { at, press, shot, title, town } from "./visitor.mjs"

const PASSWORD = "correct horse battery"

const { visitor: device, open, mailed } = town({
  CARDEA_FLOWS_RECOVERY: "true",
  CARDEA_FLOWS_VERIFICATION: "true",
  CARDEA_FLOWS_RECOVERY_USE: "link",
  CARDEA_FLOWS_VERIFICATION_USE: "link",
})

const link = (address) => mailed(address, /http:\S+token=\S+/)

async function signUp(page, email) {
  await open(page, "/self-service/registration/browser")
  await page.getByLabel("Email").fill(email)
  await page.getByLabel("Password").fill("too short")
  await press(page, "Create account")
  await page.getByText("must be at least 15 characters").waitFor()
  await shot(page, "password-too-short")
  await page.getByLabel("Password").fill(PASSWORD)
  await press(page, "Create account")
}

test("a link that was mailed lets somebody in on another device", async () => {
  const laptop = await device()
  await signUp(laptop.page, "ann@example.org")
  await laptop.close()
  const verifying = await device()
  await verifying.page.goto(await link("ann@example.org"))
  assert.equal(at(verifying.page), "/ui/verification")
  await verifying.page.getByText("You successfully verified").waitFor()
  await shot(verifying.page, "link-verified")
  await verifying.close()

  const { page, close } = await device()
  await open(page, "/self-service/recovery/browser")
  await shot(page, "link-recovery")
  await page.getByLabel("Email").fill("ann@example.org")
  await press(page, "Continue")
  assert.equal(await title(page), "Check your email")
  await page.getByText("a link is on its way there").waitFor()
  await shot(page, "link-sent")
  const mailed = await link("ann@example.org")
  const phone = await device({ viewport: { width: 390, height: 844 }, colorScheme: "dark" })
  await phone.page.goto(mailed)
  assert.equal(at(phone.page), "/ui/settings")
  await phone.page.getByText("You are back in").waitFor()
  await shot(phone.page, "link-followed")
  await phone.close()
  await page.goto(mailed)
  assert.equal(at(page), "/ui/recovery")
  await shot(page, "link-used")
  await open(page, "/self-service/settings/browser")
  assert.equal(at(page), "/ui/login")
  await close()
})

test("another address is verified, a copy taken along and the account deleted", async () => {
  const { page, close } = await device()
  await signUp(page, "bob@example.org")
  await open(page, "/self-service/settings/browser")
  await page.getByLabel("Email").fill("rob@example.org")
  await press(page, "Save changes")
  assert.equal(at(page), "/ui/verification")
  await page.getByText("rob@example.org").waitFor()
  await shot(page, "address-changed")
  await page.goto(await link("rob@example.org"))
  await page.getByText("You successfully verified").waitFor()

  await open(page, "/self-service/settings/browser")
  await shot(page, "settings")
  const saved = page.waitForEvent("download")
  await page.getByRole("link", { name: "Download a copy" }).click()
  const copy = JSON.parse(readFileSync(await (await saved).path(), "utf8"))
  assert.equal(copy.identity.traits.email, "rob@example.org")
  assert.ok(copy.events.some((event) => event.kind === "identity.changed"))

  await page.getByRole("link", { name: "Delete account" }).click()
  await page.waitForURL(/\/ui\/erasure/)
  await shot(page, "erasure")
  // The browser itself wants the box ticked first.
  await page.getByRole("button", { name: "Delete account" }).click()
  assert.equal(at(page), "/ui/erasure")
  await page.getByLabel("Yes, delete everything").check()
  await press(page, "Delete account")
  assert.equal(at(page), "/ui/erased")
  await shot(page, "erased")
  await open(page, "/self-service/settings/browser")
  assert.equal(at(page), "/ui/login")
  await close()
})
