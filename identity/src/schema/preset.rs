//! The identity schema that a new cluster starts with: an e-mail address that is
//! the password identifier and is verified and recovered by, and a name.

use serde_json::{Value, json};

/// The preset's own id.
pub const EMAIL_PRESET_ID: &str = "preset://email";

/// The preset's document.
pub fn email() -> Value {
    json!({
        "$id": "urn:cardea:identity-schema:email",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Person",
        "type": "object",
        "properties": {
            "traits": {
                "type": "object",
                "properties": {
                    "email": {
                        "type": "string",
                        "format": "email",
                        "title": "Email",
                        "minLength": 3,
                        "maxLength": 320,
                        "ory.sh/kratos": {
                            "credentials": {
                                "password": {"identifier": true},
                                "code": {"identifier": true, "via": "email"},
                                "webauthn": {"identifier": true},
                                "passkey": {"display_name": true},
                                "totp": {"account_name": true}
                            },
                            "verification": {"via": "email"},
                            "recovery": {"via": "email"}
                        }
                    },
                    "name": {
                        "type": "object",
                        "properties": {
                            "first": {"title": "First Name", "type": "string", "maxLength": 256},
                            "last": {"title": "Last Name", "type": "string", "maxLength": 256}
                        },
                        "additionalProperties": false
                    }
                },
                "required": ["email"],
                "additionalProperties": false
            }
        }
    })
}
