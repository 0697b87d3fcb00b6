// A node to test against, on ports of its own, reached as localhost: browsers bind
// passkeys to names, not to addresses.

import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"

const READY_WITHIN_MS = 60_000

export const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

// `settings` are variables beside those that every such node has.
export async function start(settings = {}) {
  const binary = process.env.CARDEA_BINARY
  if (!binary) {
    throw new Error("CARDEA_BINARY names no binary")
  }
  const directory = mkdtempSync(join(tmpdir(), "cardea-browser-"))
  const [cluster, open, admin] = [await freePort(), await freePort(), await freePort()]
  // The tester's own variables are no settings of a node, which would refuse them.
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("CARDEA_"))
  const environment = {
    ...Object.fromEntries(kept),
    CARDEA_NODE_DATA_DIR: join(directory, "data"),
    CARDEA_CLUSTER_TLS: "off",
    CARDEA_CLUSTER_LISTEN: `127.0.0.1:${cluster}`,
    CARDEA_PUBLIC_LISTEN: `127.0.0.1:${open}`,
    CARDEA_PUBLIC_URL: `http://localhost:${open}`,
    CARDEA_ADMIN_LISTEN: `127.0.0.1:${admin}`,
    CARDEA_SESSIONS_COOKIE_SECURE: "false",
    CARDEA_SECRET_MASTER_KEY: "17".repeat(32),
    ...settings,
  }
  const log = openSync(join(directory, "log"), "w")
  const child = spawn(binary, ["start"], { env: environment, stdio: ["ignore", log, log] })
  const told = () => readFileSync(join(directory, "log"), "utf8").split("\n").slice(-30).join("\n")
  const stop = async () => {
    if (child.exitCode === null) {
      child.kill("SIGTERM")
      await new Promise((resolve) => child.once("exit", resolve))
    }
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    const until = Date.now() + READY_WITHIN_MS
    let initialised = false
    for (;;) {
      if (child.exitCode !== null) {
        throw new Error(`the node ended with ${child.exitCode}`)
      }
      if (Date.now() > until) {
        throw new Error("the node is not ready in time")
      }
      if (!initialised) {
        const asked = { ...Object.fromEntries(kept), CARDEA_ADMIN_URL: `http://127.0.0.1:${admin}` }
        initialised = spawnSync(binary, ["init"], { env: asked }).status === 0
      }
      const ready = await fetch(`http://127.0.0.1:${open}/health/ready`).catch(() => null)
      if (ready?.ok) {
        return { url: `http://localhost:${open}`, admin: `http://127.0.0.1:${admin}`, stop, told }
      }
      await pause(100)
    }
  } catch (error) {
    console.error(told())
    await stop()
    throw error
  }
}
