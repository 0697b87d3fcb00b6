// Second factors and passkeys through the included pages, in a real browser with a
// virtual authenticator: sign up, add an authenticator app and backup codes, log in with
// a code, add a passkey, log in by it, step up, and sign up by a passkey alone.

import assert from "node:assert/strict"
import { createHmac } from "node:crypto"
import { test } from "node:test"

import { at, press, shot, town } from "./visitor.mjs"

const PASSWORD = "correct horse battery"

const { visitor, open, url } = town()

function totp(seed, step) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
  const bits = [...seed].map((c) => alphabet.indexOf(c).toString(2).padStart(5, "0")).join("")
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)))
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(step))
  const digest = createHmac("sha1", key).update(counter).digest()
  const at = digest[19] & 15
  return String((digest.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0")
}

const stepNow = () => Math.floor(Date.now() / 30_000)

// A page of a new person, with an authenticator that acts only when it is told to.
async function person() {
  const { page, context, close } = await visitor()
  const complaints = []
  page.on("console", (message) => {
    if (message.type() === "error") {
      complaints.push(message.text())
    }
  })
  page.on("pageerror", (error) => complaints.push(String(error)))
  const cdp = await context.newCDPSession(page)
  await cdp.send("WebAuthn.enable")
  const { authenticatorId } = await cdp.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2",
      transport: "internal",
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: false,
    },
  })
  const present = (enabled) =>
    cdp.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId, enabled })
  return {
    page,
    complaints,
    keys: async () =>
      (await cdp.send("WebAuthn.getCredentials", { authenticatorId })).credentials,
    // Presses a button that asks the authenticator, and waits for the page after it.
    touch: async (name) => {
      const button = page.getByRole("button", { name })
      await button.waitFor()
      const left = page.waitForNavigation()
      await present(true)
      // A page that already offers passkeys may be off before the button is pressed.
      await Promise.all([left, button.click().catch(() => {})])
      await present(false)
    },
    close,
  }
}

const section = (page, name) => page.getByRole("region", { name, exact: true })

async function signOut(page) {
  await open(page, "/ui/welcome")
  await page.getByRole("link", { name: "Sign out" }).click()
  await open(page, "/self-service/login/browser")
  assert.equal(at(page), "/ui/login")
}

test("somebody adds factors, and logs in with each", async () => {
  const { page, complaints, keys, touch, close } = await person()
  await open(page, "/self-service/registration/browser")
  await shot(page, "01-registration")
  await page.getByLabel("Email").fill("ann@example.org")
  await page.getByLabel("Password").fill(PASSWORD)
  await press(page, "Create account")
  assert.equal(at(page), "/ui/welcome")

  // An authenticator app.
  await open(page, "/self-service/settings/browser")
  assert.equal(at(page), "/ui/settings")
  await shot(page, "02-settings")
  const width = await page.evaluate(() => document.documentElement.scrollWidth)
  assert.equal(width, 1100, "nothing stands out of the page")
  const app = section(page, "Authenticator app")
  const picture = app.getByRole("img")
  assert.ok(await picture.evaluate((image) => image.complete && image.naturalWidth > 100))
  const seed = (await app.locator("code.secret").textContent()).trim()
  await app.getByLabel("Verify code").fill("000000")
  await press(page, "Add app")
  await page.getByText("The provided authentication code is invalid").waitFor()
  assert.equal((await app.locator("code.secret").textContent()).trim(), seed)
  await app.getByLabel("Verify code").fill(totp(seed, stepNow()))
  await press(page, "Add app")
  await page.getByText("Your changes have been saved!").waitFor()
  await page.getByRole("button", { name: "Remove app" }).waitFor()

  // Backup codes.
  await press(page, "Make new codes")
  const codes = await section(page, "Backup codes").getByRole("listitem").allTextContents()
  assert.equal(codes.length, 12)
  await shot(page, "03-backup-codes")
  await press(page, "I have kept them safe")
  await page.getByText("Your changes have been saved!").waitFor()

  // A code of the app, as the second step.
  await signOut(page)
  await shot(page, "04-login")
  await page.getByLabel("Email").fill("ann@example.org")
  await page.getByLabel("Password").fill(PASSWORD)
  await press(page, "Sign in")
  assert.equal(at(page), "/ui/login")
  await page.getByRole("heading", { name: "Confirm that it is you" }).waitFor()
  await shot(page, "05-second-step")
  const aside = await page.request.get(url("/sessions/whoami"))
  assert.equal(aside.status(), 403)
  assert.equal((await aside.json()).error.id, "session_aal2_required")
  await page.getByLabel("Authentication code").fill(totp(seed, stepNow() + 1))
  await press(page, "Continue")
  assert.equal(at(page), "/ui/welcome")
  const whoami = await (await page.request.get(url("/sessions/whoami"))).json()
  assert.equal(whoami.authenticator_assurance_level, "aal2")

  // A passkey, and a security key.
  await open(page, "/self-service/settings/browser")
  await touch("Add passkey")
  await page.getByText("Your changes have been saved!").waitFor()
  assert.equal((await keys()).length, 1)
  await shot(page, "06-passkey-added")

  // Logging in by passkey, and stepping up by a backup code.
  await signOut(page)
  await touch("Sign in with passkey")
  await page.getByRole("heading", { name: "Confirm that it is you" }).waitFor()
  await page.getByText("Use a backup code").click()
  await page.getByLabel("Backup recovery code").fill(codes[0])
  await press(page, "Use backup code")
  assert.equal(at(page), "/ui/welcome")
  const again = await (await page.request.get(url("/sessions/whoami"))).json()
  const methods = again.authentication_methods.map((method) => method.method)
  assert.deepEqual(methods, ["passkey", "lookup_secret"])

  // Without the app, the passkey is enough.
  await open(page, "/self-service/settings/browser")
  await press(page, "Remove app")
  await press(page, "Remove codes")
  await signOut(page)
  await touch("Sign in with passkey")
  assert.equal(at(page), "/ui/welcome")
  await shot(page, "07-welcome")
  assert.deepEqual(complaints.filter((text) => !text.includes("403")), [])
  await close()
})

test("somebody signs up and logs in by a passkey alone", async () => {
  const { page, complaints, keys, touch, close } = await person()
  await open(page, "/self-service/registration/browser")
  await page.getByLabel("Email").fill("bob@example.org")
  await touch("Sign up with passkey")
  assert.equal(at(page), "/ui/welcome")
  const [key] = await keys()
  assert.equal(key.userName, "bob@example.org")
  await signOut(page)
  await touch("Sign in with passkey")
  assert.equal(at(page), "/ui/welcome")
  const whoami = await (await page.request.get(url("/sessions/whoami"))).json()
  assert.equal(whoami.authenticator_assurance_level, "aal1")
  assert.equal(whoami.identity.traits.email, "bob@example.org")
  // The last way in cannot be removed.
  await open(page, "/self-service/settings/browser")
  await shot(page, "08-only-a-passkey")
  const remove = section(page, "Passkeys").getByRole("button", { name: "Remove" })
  assert.ok(await remove.isDisabled())
  assert.deepEqual(complaints, [])
  await close()
})

test("a security key is a second step", async () => {
  const { page, touch, close } = await person()
  await open(page, "/self-service/registration/browser")
  await page.getByLabel("Email").fill("eve@example.org")
  await page.getByLabel("Password").fill(PASSWORD)
  await press(page, "Create account")
  await open(page, "/self-service/settings/browser")
  await page.getByLabel("Name of the security key").fill("blue")
  await touch("Add security key")
  await page.getByText("Your changes have been saved!").waitFor()
  await section(page, "Security keys").getByText("blue").waitFor()
  await signOut(page)
  await page.getByLabel("Email").fill("eve@example.org")
  await page.getByLabel("Password").fill(PASSWORD)
  await press(page, "Sign in")
  await shot(page, "09-security-key")
  await touch("Use security key")
  assert.equal(at(page), "/ui/welcome")
  await close()
})
