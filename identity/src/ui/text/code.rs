//! What is said of codes that log somebody in or sign somebody up, and of links.

use serde_json::json;

use super::{Text, TextType};
use crate::{flow::Purpose, schema::Channel};

impl Text {
    /// 1010014: a code was sent, if the address is known.
    pub fn login_code_sent() -> Self {
        Self::info(
            1_010_014,
            "A code was sent to the address you provided. If you didn't receive it, please check \
             the spelling of the address and try again.",
        )
    }

    /// 1010015: the button that has a code sent.
    pub fn send_login_code() -> Self {
        Self::info(1_010_015, "Send sign in code")
    }

    /// 1060002, 1080001: a link was sent, if the address is known.
    pub fn link_sent(purpose: Purpose) -> Self {
        let (id, what) = match purpose {
            Purpose::Recovery => (1_060_002, "recovery"),
            _ => (1_080_001, "verification"),
        };
        Self::info(
            id,
            format!(
                "An email containing a {what} link has been sent to the email address you \
                 provided. If you have not received an email, check the spelling of the address \
                 and make sure to use the address you registered with."
            ),
        )
    }

    /// 4060004, 4070001: the link is wrong, over, or was used.
    pub fn link_invalid(purpose: Purpose) -> Self {
        let (id, what) = match purpose {
            Purpose::Recovery => (4_060_004, "recovery"),
            _ => (4_070_001, "verification"),
        };
        Self::error(
            id,
            format!("The {what} token is invalid or has already been used. Please retry the flow."),
        )
    }

    /// 1040005: a code was sent.
    pub fn registration_code_sent() -> Self {
        Self::info(
            1_040_005,
            "A code was sent to the address(es) you provided. If you have not received an email, \
             check the spelling of the address and retry the registration.",
        )
    }

    /// 1040006: the button that has a code sent.
    pub fn send_registration_code() -> Self {
        Self::info(1_040_006, "Send sign up code")
    }

    /// 1070012: label of the field of a code.
    pub fn label_registration_code() -> Self {
        Self::info(1_070_012, "Registration code")
    }

    /// 1070013: label of the field of a code.
    pub fn label_login_code() -> Self {
        Self::info(1_070_013, "Login code")
    }

    /// 4000036: the traits are not those for which the code was sent.
    pub fn traits_mismatch() -> Self {
        Self::error(
            4_000_036,
            "The provided traits do not match the traits previously associated with this flow.",
        )
    }

    /// 4010008: the code is wrong, over, or was used.
    pub fn login_code_invalid() -> Self {
        Self::error(
            4_010_008,
            "The login code is invalid or has already been used. Please try again.",
        )
    }

    /// 4040003: the code is wrong, over, or was used.
    pub fn registration_code_invalid() -> Self {
        Self::error(
            4_040_003,
            "The registration code is invalid or has already been used. Please try again.",
        )
    }

    /// 4000001: the flow takes no more codes.
    pub fn codes_tried_too_often() -> Self {
        Self::generic("The request was submitted too often. Please request another code.")
    }

    /// 4000001: the traits are too large to wait for a code.
    pub fn traits_too_large() -> Self {
        Self::generic("The traits are too large to sign up by a code.")
    }

    /// 1010023: the button that has a code sent to an address.
    pub fn send_code_to(via: Channel, shown: &str) -> Self {
        Self::info(1_010_023, format!("Send code to {shown}"))
            .with(json!({"address": shown, "channel": via.name()}))
    }

    /// 4010010: a second factor was asked for at an address that the account has not.
    pub fn address_unknown() -> Self {
        Self::error(
            4_010_010,
            "The address you entered does not match any known addresses in the current account.",
        )
    }

    /// 1060004, 1080004: a code went to a number.
    pub fn code_sent_to_number(purpose: Purpose, number: &str) -> Self {
        let masked = masked(number);
        let told = match purpose {
            Purpose::Recovery => Self::info(
                1_060_004,
                format!(
                    "A recovery code has been sent to {masked}. If you have not received it, check \
                     the spelling of the address and make sure to use the address you registered \
                     with."
                ),
            ),
            _ => Self::info(
                1_080_004,
                "A text message containing a verification code has been sent to the phone number \
                 you provided. If you have not received a text message, check the spelling of the \
                 number and make sure to use the number you registered with.",
            ),
        };
        told.with(json!({"masked_address": masked}))
    }

    /// The same of a link, which Kratos sends by mail alone.
    pub fn link_sent_to_number(purpose: Purpose, number: &str) -> Self {
        let (id, what) = match purpose {
            Purpose::Recovery => (1_060_004, "recover your account"),
            _ => (1_080_004, "verify your number"),
        };
        let masked = masked(number);
        let text = format!(
            "A text message to {what} has been sent to {masked}. If you have not received it, \
             check the number and make sure to use the one you registered with."
        );
        Self::info(id, text).with(json!({"masked_address": masked}))
    }

    /// 1080002, 1080005: an address was verified.
    pub fn verified(via: Channel) -> Self {
        let (id, text) = match via {
            Channel::Email => (1_080_002, "You successfully verified your email address."),
            Channel::Sms => (1_080_005, "You successfully verified your phone number."),
        };
        Self { kind: TextType::Success, ..Self::info(id, text) }
    }

    /// 1070017: label of the field of a number.
    pub fn label_phone() -> Self {
        Self::info(1_070_017, "Phone number")
    }

    /// 1070018: label of the field of an address of either kind.
    pub fn label_email_or_phone() -> Self {
        Self::info(1_070_018, "Email or phone number")
    }
}

/// An address as it is shown to who may not know it: how it begins, and its domain or how
/// it ends.
pub(crate) fn masked(address: &str) -> String {
    let chars: Vec<char> = address.chars().collect();
    if let Some((local, domain)) = address.split_once('@') {
        let first: String =
            local.chars().take(if local.chars().count() > 2 { 2 } else { 0 }).collect();
        return format!("{first}****@{domain}");
    }
    match chars.len().checked_sub(2) {
        Some(at) if chars.len() >= 8 => {
            let (first, last): (String, String) =
                (chars.iter().take(3).collect(), chars.iter().skip(at).collect());
            format!("{first}****{last}")
        }
        _ => "****".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked() {
        for (address, shown) in [
            ("+4930901820", "+49****20"),
            ("ann@example.org", "an****@example.org"),
            ("a@example.org", "****@example.org"),
            ("+4912", "****"),
            ("ärger@example.org", "är****@example.org"),
        ] {
            assert_eq!(masked(address), shown);
        }
    }
}
