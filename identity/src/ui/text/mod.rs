//! Messages with the ids that Kratos gives them. Interfaces and tests key on the
//! id; the text is American English, as Kratos has it.

mod code;
mod factor;

pub(crate) use code::masked;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::flow::Purpose;

/// How a message is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextType {
    /// It tells something.
    Info,
    /// Something was refused.
    Error,
    /// Something was done.
    Success,
}

/// A message (`uiText`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The id: stable, and what interfaces translate by.
    pub id: u32,
    /// The message in American English.
    pub text: String,
    /// How it is meant.
    #[serde(rename = "type")]
    pub kind: TextType,
    /// The parameters of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Map<String, Value>>,
}

impl Text {
    pub(super) fn info(id: u32, text: impl Into<String>) -> Self {
        Self { id, text: text.into(), kind: TextType::Info, context: None }
    }

    pub(crate) fn error(id: u32, text: impl Into<String>) -> Self {
        Self { id, text: text.into(), kind: TextType::Error, context: None }
    }

    pub(crate) fn with(mut self, context: Value) -> Self {
        if let Value::Object(map) = context {
            self.context = Some(map);
        }
        self
    }

    /// 1010022: the button of the password login.
    pub fn sign_in_with_password() -> Self {
        Self::info(1_010_022, "Sign in with password")
    }

    /// 1010002: the button of a provider.
    pub fn sign_in_with(provider: &str, id: &str) -> Self {
        Self::info(1_010_002, format!("Sign in with {provider}"))
            .with(json!({"provider": provider, "provider_id": id}))
    }

    /// 1040002: the button of a provider.
    pub fn sign_up_with(provider: &str, id: &str) -> Self {
        Self::info(1_040_002, format!("Sign up with {provider}"))
            .with(json!({"provider": provider, "provider_id": id}))
    }

    /// 1040003: the button that completes what a provider has begun.
    pub fn registration_continue() -> Self {
        Self::info(1_040_003, "Continue")
    }

    /// 1010016: somebody has the address already, and must log in to link the account.
    pub fn log_in_to_link(account: &str, provider: &str) -> Self {
        Self::info(
            1_010_016,
            format!(
                "You tried to sign in with \"{account}\", but that email is already used by \
                 another account. Sign in to your account with one of the options below to add \
                 your account \"{account}\" at \"{provider}\" as another way to sign in."
            ),
        )
        .with(json!({"duplicateIdentifier": account, "provider": provider}))
    }

    /// 4010009: who logs in is not whom the account is to be linked to.
    pub fn linked_does_not_match() -> Self {
        Self::error(4_010_009, "Linked credentials do not match.")
    }

    /// 4000027: somebody else has linked the account.
    pub fn account_linked_elsewhere() -> Self {
        Self::error(
            4_000_027,
            "An account with the same identifier (email, phone, username, ...) exists already. \
             Please sign in to your existing account to link your social profile.",
        )
    }

    /// 1050002: the button that links an account.
    pub fn label_link(provider: &str) -> Self {
        Self::info(1_050_002, format!("Link {provider}")).with(json!({"provider": provider}))
    }

    /// 1050003: the button that unlinks an account; it names the account, if that is known.
    pub fn label_unlink(provider: &str, account: &str) -> Self {
        let text = match account {
            "" => format!("Unlink {provider}"),
            account => format!("Unlink {provider} ({account})"),
        };
        Self::info(1_050_003, text).with(json!({"provider": provider, "account": account}))
    }

    /// 4000010: none of its addresses is verified.
    pub fn address_not_verified() -> Self {
        Self::error(
            4_000_010,
            "Account not active yet. Did you forget to verify your email address?",
        )
    }

    /// 1010003: why a signed-in person is asked again.
    pub fn confirm_that_it_is_you() -> Self {
        Self::info(1_010_003, "Please confirm this action by verifying that it is you.")
    }

    /// 1040001: the button of the registration.
    pub fn sign_up() -> Self {
        Self::info(1_040_001, "Sign up")
    }

    /// 1070001: label of a password field.
    pub fn label_password() -> Self {
        Self::info(1_070_001, "Password")
    }

    /// 1070002: label that the identity schema gives.
    pub fn label_generated(title: &str, name: &str) -> Self {
        Self::info(1_070_002, title).with(json!({"title": title, "name": name}))
    }

    /// 1070004: label of the identifier field.
    pub fn label_identifier() -> Self {
        Self::info(1_070_004, "ID")
    }

    /// 4000001: what no other message says.
    pub fn generic(reason: &str) -> Self {
        Self::error(4_000_001, reason).with(json!({"reason": reason}))
    }

    /// 4000001: the same, where `what` names the sentence that other languages say it by,
    /// and `value` stands in it.
    pub(crate) fn generic_about(reason: &str, what: &str, value: impl Into<Value>) -> Self {
        let context =
            Map::from_iter([("reason".to_owned(), reason.into()), (what.to_owned(), value.into())]);
        Self::error(4_000_001, reason).with(Value::Object(context))
    }

    /// 4000001: too many attempts; whole seconds, rounded up.
    pub fn come_back_later(wait: std::time::Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let unit = if seconds == 1 { "second" } else { "seconds" };
        let reason = format!("There were too many attempts. Please try again in {seconds} {unit}.");
        Self::error(4_000_001, reason.as_str())
            .with(json!({"reason": reason, "retry_after_seconds": seconds as u64}))
    }

    /// 4000002: a property is missing.
    pub fn property_missing(property: &str) -> Self {
        Self::error(4_000_002, format!("Property {property} is missing."))
            .with(json!({"property": property}))
    }

    /// 4000006: identifier or password are wrong; it never says which.
    pub fn invalid_credentials() -> Self {
        Self::error(
            4_000_006,
            "The provided credentials are invalid, check for spelling mistakes in your password \
             or username, email address, or phone number.",
        )
    }

    /// 4000007: somebody has the identifier already.
    pub fn duplicate_identifier() -> Self {
        Self::error(
            4_000_007,
            "An account with the same identifier (email, phone, username, ...) exists already.",
        )
    }

    /// 4000009: the schema and traits give no identifier to log in with.
    pub fn identifier_missing() -> Self {
        Self::error(
            4_000_009,
            "Could not find any login identifiers. Did you forget to set them? This could also \
             be caused by a server misconfiguration.",
        )
    }

    /// 4000031: the password resembles the identifier.
    pub fn password_too_similar() -> Self {
        Self::error(
            4_000_031,
            "The password can not be used because it is too similar to the identifier.",
        )
    }

    /// 4000034: the password is known to everybody.
    pub fn password_breached() -> Self {
        Self::error(
            4_000_034,
            "The password has been found in data breaches and must no longer be used.",
        )
    }

    /// 4000005: whether the password was breached could not be found out.
    pub fn password_not_judged() -> Self {
        let reason = "unable to check if password has been leaked because an unexpected network error occurred";
        Self::error(4_000_005, format!("The password can not be used because {reason}."))
            .with(json!({"reason": reason}))
    }

    /// 4000032: the password is too short; lengths in characters.
    pub fn password_too_short(length_min: usize, length: usize) -> Self {
        Self::error(
            4_000_032,
            format!(
                "The password must be at least {length_min} characters long, but got {length}."
            ),
        )
        .with(json!({"min_length": length_min, "actual_length": length}))
    }

    /// 4000033: the password is too long; lengths in bytes.
    pub fn password_too_long(length_max: usize, length: usize) -> Self {
        Self::error(
            4_000_033,
            format!("The password must be at most {length_max} characters long, but got {length}."),
        )
        .with(json!({"max_length": length_max, "actual_length": length}))
    }

    /// 4010001, 4040001, 4050001, 4060005, 4070005: the flow is older than its
    /// lifetime.
    pub fn flow_expired(purpose: Purpose, expired_at_ms: u64, now_ms: u64) -> Self {
        let id = match purpose {
            Purpose::Login => 4_010_001,
            Purpose::Registration => 4_040_001,
            Purpose::Settings => 4_050_001,
            Purpose::Recovery => 4_060_005,
            Purpose::Verification => 4_070_005,
        };
        let flow = purpose.name();
        // Hundredths of a minute, without floating point.
        let hundredths = now_ms.saturating_sub(expired_at_ms) / 600;
        let ago = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        Self::error(id, format!("The {flow} flow expired {ago} minutes ago, please try again."))
            .with(json!({
                "expired_at": crate::time::rfc3339(cardea_storage::Timestamp(expired_at_ms)),
                "expired_at_unix": expired_at_ms / 1000,
            }))
    }

    /// 1050001: settings were changed.
    pub fn settings_saved() -> Self {
        let text = "Your changes have been saved!";
        Self { kind: TextType::Success, ..Self::info(1_050_001, text) }
    }

    /// 1070015: label of what a proof of work is filled into.
    pub fn captcha_needed() -> Self {
        Self::info(1_070_015, "Please complete the captcha challenge to continue.")
    }

    /// 4000038: the work was not done.
    pub fn captcha_failed() -> Self {
        Self::error(4_000_038, "Captcha verification failed, please try again.")
    }

    /// 1050023: an organization signs the owner in.
    pub fn managed_by_organization() -> Self {
        let text = "Your account is managed by your organization. To change these settings, \
                    contact your organization administrator.";
        Self::info(1_050_023, text)
    }

    /// 1060001: somebody got back in; whole minutes, written as Kratos writes them.
    pub fn recovered(minutes: u64) -> Self {
        let text = format!(
            "You successfully recovered your account. Please change your password or set up an \
             alternative login method (e.g. social sign in) within the next {minutes}.00 minutes."
        );
        let told = Self::info(1_060_001, text).with(json!({"minutes": minutes}));
        Self { kind: TextType::Success, ..told }
    }

    /// 1070003: the button that keeps settings.
    pub fn label_save() -> Self {
        Self::info(1_070_003, "Save")
    }

    /// 1070007: label of an e-mail field.
    pub fn label_email() -> Self {
        Self::info(1_070_007, "Email")
    }

    /// 1070008: the button that asks for another code.
    pub fn label_send_again() -> Self {
        Self::info(1_070_008, "Resend code")
    }

    /// 1070009: a button.
    pub fn label_continue() -> Self {
        Self::info(1_070_009, "Continue")
    }

    /// 1070010, 1070011: label of the field of a code.
    pub fn label_code(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Recovery => Self::info(1_070_010, "Recovery code"),
            _ => Self::info(1_070_011, "Verification code"),
        }
    }

    /// 1060003, 1080003: a code was sent, if the address is known.
    pub fn code_sent(purpose: Purpose) -> Self {
        let (id, what) = match purpose {
            Purpose::Recovery => (1_060_003, "recovery"),
            _ => (1_080_003, "verification"),
        };
        Self::info(
            id,
            format!(
                "An email containing a {what} code has been sent to the email address you \
                 provided. If you have not received an email, check the spelling of the address \
                 and make sure to use the address you registered with."
            ),
        )
    }

    /// 4060006, 4070006: the code is wrong, over, or was used.
    pub fn code_invalid(purpose: Purpose) -> Self {
        let (id, what) = match purpose {
            Purpose::Recovery => (4_060_006, "recovery"),
            _ => (4_070_006, "verification"),
        };
        Self::error(
            id,
            format!("The {what} code is invalid or has already been used. Please try again."),
        )
    }

    /// 4060001, 4070002: the flow was completed before.
    pub fn code_already_completed(purpose: Purpose) -> Self {
        let id = if purpose == Purpose::Recovery { 4_060_001 } else { 4_070_002 };
        Self::error(id, "The request was already completed successfully and can not be retried.")
    }

    /// 4060002, 4070003: too many codes were tried.
    pub fn code_flow_failed(purpose: Purpose) -> Self {
        let id = if purpose == Purpose::Recovery { 4_060_002 } else { 4_070_003 };
        let what = purpose.name();
        Self::error(id, format!("The {what} flow reached a failure state and must be retried."))
    }

    /// 4010005, 4010006: the submission names no method that is there.
    pub fn code_method_missing(purpose: Purpose) -> Self {
        let (id, what) = match purpose {
            Purpose::Recovery => (4_010_005, "recover your account"),
            _ => (4_010_006, "verify your account"),
        };
        Self::error(
            id,
            format!(
                "Could not find a strategy to {what} with. Did you fill out the form correctly?"
            ),
        )
    }

    /// 4000040: no e-mail address.
    pub fn no_email(value: &str) -> Self {
        Self::error(4_000_040, format!("\"{value}\" is not a valid \"email\""))
            .with(json!({"value": value}))
    }

    /// 1070005: a button.
    pub fn label_submit() -> Self {
        Self::info(1_070_005, "Submit")
    }

    /// 4010004: the settings name no method that is there.
    pub fn settings_method_missing() -> Self {
        Self::error(
            4_010_004,
            "Could not find a strategy to update your settings. Did you fill out the form \
             correctly?",
        )
    }

    /// 4010002: the login names no method that is there.
    pub fn login_method_missing() -> Self {
        Self::error(
            4_010_002,
            "Could not find a strategy to log you in with. Did you fill out the form correctly?",
        )
    }

    /// 4010003: the registration names no method that is there.
    pub fn registration_method_missing() -> Self {
        Self::error(
            4_010_003,
            "Could not find a strategy to sign you up with. Did you fill out the form correctly?",
        )
    }

    /// 4010007: the login flow was completed before.
    pub fn login_already_completed() -> Self {
        Self::error(
            4_010_007,
            "The request was already completed successfully and can not be retried.",
        )
    }

    /// 4040002: the registration flow was completed before.
    pub fn registration_already_completed() -> Self {
        Self::error(
            4_040_002,
            "The request was already completed successfully and can not be retried.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_serialises_as_kratos_does() {
        assert_eq!(
            serde_json::to_value(Text::property_missing("email")).unwrap(),
            json!({
                "id": 4000002,
                "text": "Property email is missing.",
                "type": "error",
                "context": {"property": "email"},
            })
        );
        assert_eq!(
            serde_json::to_value(Text::label_password()).unwrap(),
            json!({"id": 1070001, "text": "Password", "type": "info"})
        );
    }

    #[test]
    fn expiry_is_told_in_minutes() {
        let text = Text::flow_expired(Purpose::Login, 60_000, 60_000 + 90_000);
        assert_eq!(text.text, "The login flow expired 1.50 minutes ago, please try again.");
        let context = text.context.unwrap();
        assert_eq!(context["expired_at"], "1970-01-01T00:01:00Z");
        assert_eq!(context["expired_at_unix"], 60);
    }
}
