// Lets the browser itself ask a provider who somebody is (FedCM), where it can. A browser
// that cannot, a provider that does not answer and somebody who would rather not are led on
// as if this were not here: by the provider's own page.
(() => {
  "use strict";
  const form = document.getElementById("fedcm");
  if (!form || !("IdentityCredential" in window)) return;

  for (const { id, ...provider } of JSON.parse(form.dataset.providers)) {
    const buttons = document.querySelectorAll('button[name="provider"]');
    const button = [...buttons].find((one) => one.value === id);
    if (!button) continue;
    let state = "new";
    button.addEventListener("click", async (event) => {
      if (state === "declined") return;
      event.preventDefault();
      if (state === "asking") return;
      state = "asking";
      try {
        const identity = { mode: "active", context: "signin", providers: [provider] };
        const credential = await navigator.credentials.get({ identity });
        if (typeof credential?.token !== "string") throw new Error("no token");
        form.elements.namedItem("token").value = credential.token;
        form.submit();
      } catch {
        state = "declined";
        button.click();
      }
    });
  }
})();
