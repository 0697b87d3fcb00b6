//! What is said of codes that log somebody in or sign somebody up, and of links.

use super::Text;
use crate::flow::Purpose;

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
}
