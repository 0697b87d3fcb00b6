// Passkeys and security keys for forms: takes what the server asks for out of the form,
// asks the browser, puts the answer into the form and sends it.
(function () {
  "use strict"

  if (window.oryWebAuthnInitialized) {
    return
  }
  window.oryWebAuthnInitialized = true

  const bytesOf = (text) => {
    const plain = text.replace(/-/g, "+").replace(/_/g, "/")
    return Uint8Array.from(atob(plain), (c) => c.charCodeAt(0))
  }

  const textOf = (buffer) => {
    let plain = ""
    for (const byte of new Uint8Array(buffer)) {
      plain += String.fromCharCode(byte)
    }
    return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "")
  }

  const named = (name) => document.getElementsByName(name)[0]

  // What is wrong is told where interfaces have room for it, else in the console.
  const complain = (error) => {
    const place = document.querySelector("[data-webauthn-error]")
    if (place) {
      const message = place.dataset.webauthnError
      place.textContent = message || String(error)
      place.hidden = false
    } else {
      console.error(error)
    }
  }

  const keys = (list) => (list || []).map((key) => ({ ...key, id: bytesOf(key.id) }))

  const decoded = (options) => {
    const asked = { ...options.publicKey, challenge: bytesOf(options.publicKey.challenge) }
    if (asked.user) {
      asked.user = { ...asked.user, id: bytesOf(asked.user.id) }
    }
    if (asked.allowCredentials) {
      asked.allowCredentials = keys(asked.allowCredentials)
    }
    if (asked.excludeCredentials) {
      asked.excludeCredentials = keys(asked.excludeCredentials)
    }
    return asked
  }

  const created = (credential) => {
    const { response } = credential
    return JSON.stringify({
      id: credential.id,
      rawId: textOf(credential.rawId),
      type: credential.type,
      response: {
        attestationObject: textOf(response.attestationObject),
        clientDataJSON: textOf(response.clientDataJSON),
        transports: response.getTransports ? response.getTransports() : [],
      },
    })
  }

  const used = (credential) => {
    const { response } = credential
    return JSON.stringify({
      id: credential.id,
      rawId: textOf(credential.rawId),
      type: credential.type,
      response: {
        authenticatorData: textOf(response.authenticatorData),
        clientDataJSON: textOf(response.clientDataJSON),
        signature: textOf(response.signature),
        userHandle: response.userHandle ? textOf(response.userHandle) : null,
      },
    })
  }

  const send = (field, answer) => {
    field.value = answer
    field.closest("form").submit()
  }

  // One question at a time: a browser that still offers passkeys is told to stop.
  let offering = null
  const stopOffering = () => {
    if (offering) {
      offering.abort("asked otherwise")
      offering = null
    }
  }

  const make = async (options, field) => {
    stopOffering()
    const credential = await navigator.credentials.create({ publicKey: decoded(options) })
    send(field, created(credential))
  }

  const use = async (options, field) => {
    stopOffering()
    const credential = await navigator.credentials.get({ publicKey: decoded(options) })
    send(field, used(credential))
  }

  const supported = () => {
    if (window.PublicKeyCredential) {
      return true
    }
    complain(new Error("This browser does not support passkeys and security keys."))
    return false
  }

  window.oryWebAuthnLogin = (options) => {
    if (supported()) {
      use(options, named("webauthn_login")).catch(complain)
    }
  }

  window.oryWebAuthnRegistration = (options) => {
    if (supported()) {
      make(options, named("webauthn_register")).catch(complain)
    }
  }

  window.oryPasskeyLogin = () => {
    const challenge = named("passkey_challenge")
    const field = named("passkey_login")
    if (!challenge || !field || !supported()) {
      return
    }
    use(JSON.parse(challenge.value), field).catch((error) => {
      complain(error)
      window.oryPasskeyLoginAutocompleteInit()
    })
  }

  window.oryPasskeyLoginAutocompleteInit = async () => {
    const challenge = named("passkey_challenge")
    const field = named("passkey_login")
    const keyed = window.PublicKeyCredential
    if (!challenge || !field || !keyed || !keyed.isConditionalMediationAvailable) {
      return
    }
    if (!(await keyed.isConditionalMediationAvailable())) {
      return
    }
    stopOffering()
    const current = new AbortController()
    offering = current
    try {
      const credential = await navigator.credentials.get({
        publicKey: decoded(JSON.parse(challenge.value)),
        mediation: "conditional",
        signal: current.signal,
      })
      send(field, used(credential))
    } catch (error) {
      if (!current.signal.aborted) {
        console.debug(error)
      }
    }
  }

  window.oryPasskeyRegistration = () => {
    const data = named("passkey_create_data")
    const field = named("passkey_register")
    if (!data || !field || !supported()) {
      return
    }
    const form = field.closest("form")
    // All but the password, which a passkey stands in for.
    const asked = [...form.elements].filter((element) => element.type !== "password")
    if (asked.some((element) => element.reportValidity && !element.reportValidity())) {
      return
    }
    const { displayNameFieldName, credentialOptions } = JSON.parse(data.value)
    const name = form.elements.namedItem(displayNameFieldName)
    const user = credentialOptions.publicKey.user
    user.name = (name && name.value) || user.name || "?"
    user.displayName = user.name
    make(credentialOptions, field).catch(complain)
  }

  window.oryPasskeySettingsRegistration = () => {
    const data = named("passkey_create_data")
    const field = named("passkey_settings_register")
    if (data && field && supported()) {
      make(JSON.parse(data.value), field).catch(complain)
    }
  }

  // The work that a form asks for: a number that, behind the flow's id, has a SHA-256 with so
  // many zero bits in front. One block each; the first word of the digest tells.
  const fraction = (root) => ((root % 1) * 4294967296) | 0
  const primes = []
  for (let n = 2; primes.length < 64; n++) {
    if (primes.every((prime) => n % prime)) {
      primes.push(n)
    }
  }
  const rounds = primes.map((prime) => fraction(prime ** (1 / 3)))
  const initial = primes.slice(0, 8).map((prime) => fraction(prime ** (1 / 2)))
  const words = new Int32Array(64)
  const turn = (word, by) => (word >>> by) | (word << (32 - by))
  const firstWord = (text) => {
    words.fill(0, 0, 16)
    for (let at = 0; at < text.length; at++) {
      words[at >> 2] |= text.charCodeAt(at) << (24 - 8 * (at & 3))
    }
    words[text.length >> 2] |= 128 << (24 - 8 * (text.length & 3))
    words[15] = text.length * 8
    for (let at = 16; at < 64; at++) {
      const [near, far] = [words[at - 2], words[at - 15]]
      words[at] =
        (turn(near, 17) ^ turn(near, 19) ^ (near >>> 10)) + words[at - 7] +
        (turn(far, 7) ^ turn(far, 18) ^ (far >>> 3)) + words[at - 16]
    }
    let [a, b, c, d, e, f, g, h] = initial
    for (let at = 0; at < 64; at++) {
      const more =
        (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + rounds[at] +
          words[at]) | 0
      const less = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
      h = g
      g = f
      f = e
      e = (d + more) | 0
      d = c
      c = b
      b = a
      a = (more + less) | 0
    }
    return (initial[0] + a) >>> 0
  }

  // Short turns, so that the page stays at hand; a form that is sent too early waits.
  const work = () => {
    const asked = named("captcha_challenge")
    if (!asked) {
      return
    }
    const [kind, bits, flow] = asked.value.split(".")
    if (kind !== "sha-256" || bits > 32) {
      return
    }
    let waiting
    const early = (event) => {
      event.preventDefault()
      waiting = { form: event.target, by: event.submitter }
    }
    addEventListener("submit", early, true)
    const limit = 2 ** (32 - bits)
    let number = 0
    const go = () => {
      const until = performance.now() + 12
      while (performance.now() < until) {
        for (let count = 0; count < 500; count++, number++) {
          if (firstWord(`${flow}.${number}`) < limit) {
            for (const field of document.getElementsByName("captcha_proof")) {
              field.value = number
            }
            removeEventListener("submit", early, true)
            waiting?.form.requestSubmit(waiting.by)
            return
          }
        }
      }
      setTimeout(go)
    }
    go()
  }

  // Pages whose policy forbids scripts in attributes name the function in data.
  const bind = () => {
    work()
    if (!window.PublicKeyCredential) {
      return
    }
    for (const element of document.querySelectorAll("[data-onclick-trigger]")) {
      element.addEventListener("click", () => {
        const { onclickTrigger } = element.dataset
        const argument = element.value ? JSON.parse(element.value) : undefined
        window[onclickTrigger](argument)
      })
      element.hidden = false
    }
    for (const element of document.querySelectorAll("[data-onload-trigger]")) {
      window[element.dataset.onloadTrigger]()
    }
  }

  // The names that older interfaces call.
  window.__oryWebAuthnLogin = window.oryWebAuthnLogin
  window.__oryWebAuthnRegistration = window.oryWebAuthnRegistration
  window.__oryPasskeyLogin = window.oryPasskeyLogin
  window.__oryPasskeyLoginAutocompleteInit = window.oryPasskeyLoginAutocompleteInit
  window.__oryPasskeyRegistration = window.oryPasskeyRegistration
  window.__oryPasskeySettingsRegistration = window.oryPasskeySettingsRegistration

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", bind)
  } else {
    bind()
  }
})()
