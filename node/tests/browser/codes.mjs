// Codes to an address, and the languages of the pages, in a real browser: sign up by a
// code in German, log in by one in Japanese, and what those pages say.

import assert from "node:assert/strict"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { after, before, test } from "node:test"

import { chromium } from "playwright-core"

import { start } from "./node.mjs"

const SHOTS = process.env.CARDEA_SCREENSHOTS

let node
let browser

before(async () => {
  node = await start({ CARDEA_FLOWS_CODE_LOGIN: "true" })
  browser = await chromium.launch({
    executablePath: process.env.CARDEA_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  })
})

after(async () => {
  await browser?.close()
  await node?.stop()
})

// A page of somebody who reads a language, and likes it light or dark.
async function reader(locale, colorScheme) {
  const viewport = { width: 1100, height: 900 }
  const context = await browser.newContext({ viewport, locale, colorScheme })
  const page = await context.newPage()
  page.setDefaultTimeout(15_000)
  return { page, close: () => context.close() }
}

async function shot(page, name) {
  if (SHOTS) {
    mkdirSync(SHOTS, { recursive: true })
    await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true })
  }
}

const press = async (page, name) => {
  const left = page.waitForNavigation()
  await page.getByRole("button", { name, exact: true }).click()
  await left
}

const at = (page) => new URL(page.url()).pathname
const open = (page, path) => page.goto(`${node.url}${path}`)
const language = (page) => page.evaluate(() => document.documentElement.lang)
const title = (page) => page.getByRole("heading", { level: 1 }).textContent()

// The newest code that was written to an address.
async function mailed(address) {
  const asked = `${node.admin}/admin/courier/messages?recipient=${encodeURIComponent(address)}`
  const messages = await (await fetch(asked)).json()
  const code = messages[0]?.body.match(/\b\d{6}\b/)
  assert.ok(code, `no code was sent to ${address}: ${JSON.stringify(messages)}`)
  return code[0]
}

test("somebody signs up by a code in German", async () => {
  const { page, close } = await reader("de-AT", "light")
  await open(page, "/self-service/registration/browser")
  assert.equal(await language(page), "de")
  assert.equal(await title(page), "Legen Sie Ihr Konto an")
  await shot(page, "de-registration")
  await page.getByLabel("E-Mail").fill("bea@example.org")
  await press(page, "Registrierungscode senden")
  assert.equal(await title(page), "Sehen Sie in Ihre Nachrichten")
  await shot(page, "de-registration-code")
  await page.getByLabel("Registrierungscode").fill("000000")
  await press(page, "Weiter")
  await page.getByText("Der Registrierungscode ist ungültig").waitFor()
  await page.getByLabel("Registrierungscode").fill(await mailed("bea@example.org"))
  await press(page, "Weiter")
  assert.equal(at(page), "/ui/welcome")
  await open(page, "/self-service/settings/browser")
  assert.equal(await title(page), "Einstellungen")
  await shot(page, "de-settings")
  const width = await page.evaluate(() => document.documentElement.scrollWidth)
  assert.equal(width, 1100, "nothing stands out of the page")
  await close()
})

test("somebody logs in by a code in Japanese", async () => {
  const { page, close } = await reader("ja-JP", "dark")
  await open(page, "/self-service/login/browser")
  assert.equal(await language(page), "ja")
  await shot(page, "ja-login")
  await page.locator("input[name=identifier]").fill("bea@example.org")
  await page.locator("button[value=code]").click()
  await page.locator("input[name=code]").waitFor()
  await shot(page, "ja-login-code")
  await page.locator("input[name=code]").fill(await mailed("bea@example.org"))
  const left = page.waitForURL(/\/ui\/welcome/)
  await page.locator("button[value=code][name=method]").click()
  await left
  await open(page, "/self-service/settings/browser")
  await shot(page, "ja-settings")
  await close()
})

test("each language that is spoken has its page, and others get English", async () => {
  for (const [locale, wanted] of [
    ["en-GB", "Sign in"],
    ["de-DE", "Anmelden"],
    ["fr-CA", "Se connecter"],
    ["es-MX", "Iniciar sesión"],
    ["ja-JP", "サインイン"],
    ["zh-CN", "登录"],
    ["sv-SE", "Sign in"],
  ]) {
    const { page, close } = await reader(locale, "light")
    await open(page, "/self-service/login/browser")
    assert.equal(await title(page), wanted, locale)
    await close()
  }
})
