// Somebody in front of a real browser: where it looks, what it presses, and what it was
// sent. A file of tests has one node and one browser, and many visitors.

import assert from "node:assert/strict"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { after, before } from "node:test"

import { chromium } from "playwright-core"

import { start } from "./node.mjs"

const SHOTS = process.env.CARDEA_SCREENSHOTS

// Starts a node with these settings and a browser before the tests of a file, and ends
// both after them.
export function town(settings) {
  const town = {}
  before(async () => {
    town.node = await start(settings)
    town.browser = await chromium.launch({
      executablePath: process.env.CARDEA_CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox"],
    })
  })
  after(async () => {
    await town.browser?.close()
    await town.node?.stop()
  })
  // A page of somebody at a device of its own, such as `{ locale: "de-AT" }`.
  town.visitor = async (options = {}) => {
    const viewport = { width: 1100, height: 900 }
    const context = await town.browser.newContext({ viewport, locale: "en-GB", ...options })
    const page = await context.newPage()
    page.setDefaultTimeout(15_000)
    return { page, context, close: () => context.close() }
  }
  town.url = (path) => `${town.node.url}${path}`
  town.open = (page, path) => page.goto(town.url(path))
  // What the newest message to an address has that looks like this.
  town.mailed = async (address, pattern) => {
    const query = `recipient=${encodeURIComponent(address)}`
    const answer = await fetch(`${town.node.admin}/admin/courier/messages?${query}`)
    const messages = await answer.json()
    const found = messages[0]?.body.match(pattern)
    assert.ok(found, `${pattern} was not sent to ${address}: ${JSON.stringify(messages)}`)
    return found[0]
  }
  return town
}

// A picture of the page, where CARDEA_SCREENSHOTS names a folder for it.
export async function shot(page, name) {
  if (SHOTS) {
    mkdirSync(SHOTS, { recursive: true })
    await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true })
  }
}

// Presses a button that leads to another page, or to this one anew.
export async function press(page, name) {
  const left = page.waitForNavigation()
  await page.getByRole("button", { name, exact: true }).click()
  await left
}

export const at = (page) => new URL(page.url()).pathname
export const title = (page) => page.getByRole("heading", { level: 1 }).textContent()
