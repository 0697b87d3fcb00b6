//! What is said of factors: time-based codes, backup codes, security keys, passkeys.

use cardea_storage::Timestamp;
use serde_json::json;

use super::Text;
use crate::time::rfc3339;

impl Text {
    /// 1010004: why a signed-in person is asked for a second factor.
    pub fn second_factor_needed() -> Self {
        Self::info(1_010_004, "Please complete the second authentication challenge.")
    }

    /// 1010006: label of the field of a time-based code.
    pub fn label_totp() -> Self {
        Self::info(1_010_006, "Authentication code")
    }

    /// 1010007: label of the field of a backup code.
    pub fn label_lookup_secret() -> Self {
        Self::info(1_010_007, "Backup recovery code")
    }

    /// 1010008: the button that uses a security key.
    pub fn use_security_key() -> Self {
        Self::info(1_010_008, "Use security key")
    }

    /// 1010012: the key of whoever named itself is asked for.
    pub fn prepare_security_key() -> Self {
        Self::info(
            1_010_012,
            "Prepare your WebAuthn device (e.g. security key, biometrics scanner, ...) and press \
             continue.",
        )
    }

    /// 1040004: the button that signs up by a security key.
    pub fn sign_up_with_security_key() -> Self {
        Self::info(1_040_004, "Sign up with security key")
    }

    /// 1010009: the button of a time-based code.
    pub fn use_authenticator() -> Self {
        Self::info(1_010_009, "Use Authenticator")
    }

    /// 1010010: the button of a backup code.
    pub fn use_lookup_secret() -> Self {
        Self::info(1_010_010, "Use backup recovery code")
    }

    /// 1010021: the button that uses a passkey.
    pub fn sign_in_with_passkey() -> Self {
        Self::info(1_010_021, "Sign in with passkey")
    }

    /// 1040007: the button that signs up with a passkey.
    pub fn sign_up_with_passkey() -> Self {
        Self::info(1_040_007, "Sign up with passkey")
    }

    /// 1050004: the button that removes an authenticator app.
    pub fn unlink_totp() -> Self {
        Self::info(1_050_004, "Unlink TOTP Authenticator App")
    }

    /// 1050005: label of the picture for an authenticator app.
    pub fn label_totp_qr() -> Self {
        Self::info(1_050_005, "Authenticator app QR code")
    }

    /// 1050006: the seed of an authenticator app.
    pub fn totp_secret(secret: &str) -> Self {
        Self::info(1_050_006, secret).with(json!({"secret": secret}))
    }

    /// 1050007: the button that shows backup codes.
    pub fn reveal_lookup_secrets() -> Self {
        Self::info(1_050_007, "Reveal backup recovery codes")
    }

    /// 1050008: the button that makes new backup codes.
    pub fn regenerate_lookup_secrets() -> Self {
        Self::info(1_050_008, "Generate new backup recovery codes")
    }

    /// 1050009: a backup code.
    pub fn lookup_secret(secret: &str) -> Self {
        Self::info(1_050_009, secret).with(json!({"secret": secret}))
    }

    /// 1050010: label of the list of backup codes.
    pub fn label_lookup_secrets() -> Self {
        Self::info(
            1_050_010,
            "These are your back up recovery codes. Please keep them in a safe place!",
        )
    }

    /// 1050011: the button that keeps backup codes.
    pub fn confirm_lookup_secrets() -> Self {
        Self::info(1_050_011, "Confirm backup recovery codes")
    }

    /// 1050012: the button that adds a security key.
    pub fn add_security_key() -> Self {
        Self::info(1_050_012, "Add security key")
    }

    /// 1050013: label of the field for the name of a security key.
    pub fn label_security_key_name() -> Self {
        Self::info(1_050_013, "Name of the security key")
    }

    /// 1050014: a backup code that was used.
    pub fn lookup_secret_used(at: Timestamp) -> Self {
        let told = rfc3339(at);
        Self::info(1_050_014, format!("Secret was used at {told}"))
            .with(json!({"used_at": told, "used_at_unix": at.as_millis() / 1000}))
    }

    /// 1050015: all backup codes; `None` for one that was used.
    pub fn lookup_secrets(codes: &[(Option<String>, Timestamp)]) -> Self {
        let shown: Vec<&str> =
            codes.iter().map(|(code, _)| code.as_deref().unwrap_or("used")).collect();
        let each: Vec<Self> = codes
            .iter()
            .map(|(code, used_at)| match code {
                Some(code) => Self::lookup_secret(code),
                None => Self::lookup_secret_used(*used_at),
            })
            .collect();
        Self::info(1_050_015, shown.join(", ")).with(json!({"secrets": each}))
    }

    /// 1050016: the button that does away with backup codes.
    pub fn disable_lookup_secrets() -> Self {
        Self::info(1_050_016, "Disable this method")
    }

    /// 1050017: label of the seed of an authenticator app.
    pub fn label_totp_secret() -> Self {
        Self::info(
            1_050_017,
            "This is your authenticator app secret. Use it if you can not scan the QR code.",
        )
    }

    /// 1050018: the button that removes a security key.
    pub fn remove_security_key(name: &str, added_at: Timestamp) -> Self {
        Self::info(1_050_018, format!("Remove security key \"{name}\"")).with(added(name, added_at))
    }

    /// 1050019: the button that adds a passkey.
    pub fn add_passkey() -> Self {
        Self::info(1_050_019, "Add passkey")
    }

    /// 1050020: the button that removes a passkey.
    pub fn remove_passkey(name: &str, added_at: Timestamp) -> Self {
        Self::info(1_050_020, format!("Remove passkey \"{name}\"")).with(added(name, added_at))
    }

    /// 1070006: label of the field that proves an authenticator app.
    pub fn label_verify_totp() -> Self {
        Self::info(1_070_006, "Verify code")
    }

    /// 4000008: the time-based code is wrong, over, or was used.
    pub fn totp_wrong() -> Self {
        Self::error(4_000_008, "The provided authentication code is invalid, please try again.")
    }

    /// 4000011: there is no authenticator app.
    pub fn no_totp() -> Self {
        Self::error(4_000_011, "You have no TOTP device set up.")
    }

    /// 4000012: the backup code was used.
    pub fn lookup_secret_already_used() -> Self {
        Self::error(4_000_012, "This backup recovery code has already been used.")
    }

    /// 4000013: there is no security key.
    pub fn no_security_key() -> Self {
        Self::error(4_000_013, "You have no WebAuthn device set up.")
    }

    /// 4000014: there are no backup codes.
    pub fn no_lookup_secrets() -> Self {
        Self::error(4_000_014, "You have no backup recovery codes set up.")
    }

    /// 4000015: nobody is known by that passkey.
    pub fn no_such_key_holder() -> Self {
        Self::error(4_000_015, "This account does not exist or has no security key set up.")
    }

    /// 4000016: the backup code is none.
    pub fn lookup_secret_wrong() -> Self {
        Self::error(4_000_016, "The backup recovery code is not valid.")
    }

    /// 4000043: what a security key or passkey answered is not taken.
    pub fn key_not_verified() -> Self {
        Self::error(
            4_000_043,
            "The security key or passkey could not be verified, please try again.",
        )
    }

    /// 4000001: the last way to log in cannot be removed.
    pub fn would_lock_out() -> Self {
        Self::generic(
            "unable to remove this security key because it would lock you out of your account",
        )
    }
}

fn added(name: &str, at: Timestamp) -> serde_json::Value {
    json!({
        "display_name": name,
        "added_at": rfc3339(at),
        "added_at_unix": at.as_millis() / 1000,
    })
}
