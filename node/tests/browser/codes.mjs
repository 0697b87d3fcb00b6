// Codes to an address, and the languages of the pages, in a real browser: sign up by a
// code in German, log in by one in Japanese, and what those pages say.

import assert from "node:assert/strict"
import { test } from "node:test"

import { at, press, shot, title, town } from "./visitor.mjs"

const { visitor, open, mailed, url } = town({
  CARDEA_FLOWS_CODE_LOGIN: "true",
  CARDEA_PAGES_ALLOWED_RETURN_URLS: "my-app://callback",
})

const code = (address) => mailed(address, /\b\d{6}\b/)
// Somebody who reads a language, and likes it light or dark.
const reader = (locale, colorScheme) => visitor({ locale, colorScheme })
const language = (page) => page.evaluate(() => document.documentElement.lang)

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
  await page.getByLabel("Registrierungscode").fill(await code("bea@example.org"))
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
  await page.locator("input[name=code]").fill(await code("bea@example.org"))
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

test("whoever is lost is shown a page in its language, and a program is told in JSON", async () => {
  const { page, close } = await reader("fr-FR", "light")
  const answer = await open(page, "/no/such/place?x=1")
  assert.equal(answer.status(), 404)
  assert.equal(await language(page), "fr")
  assert.equal(await title(page), "Il n’y a pas de page ici")
  await shot(page, "fr-lost")
  await page.getByRole("link", { name: "Continuer" }).click()
  await page.waitForURL(/\/ui\/welcome/)
  await close()
  const told = await fetch(url("/no/such/place"))
  assert.equal(told.status, 404)
  assert.equal((await told.json()).error.code, 404)
})

test("a form may end in an application of its own scheme", async () => {
  const { page, close } = await reader("en-GB", "light")
  await open(page, "/self-service/registration/browser?return_to=my-app%3A%2F%2Fcallback")
  await page.getByLabel("Email").fill("app@example.org")
  await page.getByLabel("Password").fill("correct horse battery staple")
  // Nothing here has that scheme, so it is tried, and fails.
  const tried = page.waitForEvent("requestfailed", (request) => request.url() === "my-app://callback")
  await page.getByRole("button", { name: "Create account", exact: true }).click()
  await tried
  await close()
})
