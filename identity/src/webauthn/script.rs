//! The script that pages call to use public keys: the browser's API takes and gives
//! bytes, forms carry text. Its functions have the names that interfaces written for
//! Kratos call.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha512};

/// Where it is served.
pub const PATH: &str = "/.well-known/ory/webauthn.js";

/// The script.
pub const TEXT: &str = include_str!("webauthn.js");

static INTEGRITY: LazyLock<String> =
    LazyLock::new(|| format!("sha512-{}", STANDARD.encode(Sha512::digest(TEXT.as_bytes()))));

/// Its digest, as the `integrity` of an element says it.
pub fn integrity() -> &'static str {
    &INTEGRITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::node::Trigger;

    #[test]
    fn script_has_every_function_that_nodes_name() {
        for trigger in [
            Trigger::OryWebAuthnLogin,
            Trigger::OryWebAuthnRegistration,
            Trigger::OryPasskeyLogin,
            Trigger::OryPasskeyLoginAutocompleteInit,
            Trigger::OryPasskeyRegistration,
            Trigger::OryPasskeySettingsRegistration,
        ] {
            let defined = format!("window.{} = ", trigger.name());
            assert!(TEXT.contains(&defined), "{defined}");
            assert_eq!(serde_json::to_value(trigger).unwrap(), trigger.name());
        }
        assert_eq!(integrity().len(), "sha512-".len() + 88);
    }
}
