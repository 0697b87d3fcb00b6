//! The messages in English.

use super::{super::template::Template, Words};

pub(super) const fn words(template: Template) -> Words {
    match template {
        Template::RecoveryCode => Words {
            greeting: GREETING,
            subject: "{{ .RecoveryCode }} is your recovery code",
            lead: "Use this code to get back into your account.",
            shown: "{{ .RecoveryCode }}",
            note: "It is good for {{ .ExpiresIn }}, once. If you did not ask for it, ignore this message: nothing has changed.",
            short: "Your recovery code is {{ .RecoveryCode }}. It is good for {{ .ExpiresIn }}.",
        },
        Template::VerificationCode => Words {
            greeting: GREETING,
            subject: "{{ .VerificationCode }} is your verification code",
            lead: "Use this code to verify your address.",
            shown: "{{ .VerificationCode }}",
            note: "It is good for {{ .ExpiresIn }}, once. If you did not ask for it, ignore this message.",
            short: "Your verification code is {{ .VerificationCode }}. It is good for {{ .ExpiresIn }}.",
        },
        Template::LoginCode => Words {
            greeting: GREETING,
            subject: "{{ .LoginCode }} is your sign-in code",
            lead: "Use this code to sign in.",
            shown: "{{ .LoginCode }}",
            note: "It is good for {{ .ExpiresIn }}, once. Nobody needs it but you: do not pass it on. If you did not ask for it, ignore this message.",
            short: "Your sign-in code is {{ .LoginCode }}. It is good for {{ .ExpiresIn }}. Do not pass it on.",
        },
        Template::RegistrationCode => Words {
            greeting: GREETING,
            subject: "{{ .RegistrationCode }} is your sign-up code",
            lead: "Use this code to create your account.",
            shown: "{{ .RegistrationCode }}",
            note: "It is good for {{ .ExpiresIn }}, once. If you did not ask for it, ignore this message: no account is created.",
            short: "Your sign-up code is {{ .RegistrationCode }}. It is good for {{ .ExpiresIn }}.",
        },
        Template::RecoveryLink => Words {
            greeting: GREETING,
            subject: "Recover your account",
            lead: "Follow this link to get back into your account.",
            shown: "{{ .RecoveryURL }}",
            note: "It is good for {{ .ExpiresIn }}, once. If you did not ask for it, ignore this message: nothing has changed.",
            short: "Follow this link to get back into your account: {{ .RecoveryURL }}",
        },
        Template::VerificationLink => Words {
            greeting: GREETING,
            subject: "Verify your address",
            lead: "Follow this link to verify your address.",
            shown: "{{ .VerificationURL }}",
            note: "It is good for {{ .ExpiresIn }}, once. If you did not ask for it, ignore this message.",
            short: "Follow this link to verify your address: {{ .VerificationURL }}",
        },
        Template::CredentialChanged => Words {
            greeting: GREETING,
            subject: "Your account was changed",
            lead: "{{ .Change }}",
            shown: "",
            note: "If it was not you, recover your account at once and look at its settings. Time of the change: {{ .At }}.",
            short: "{{ .Change }} If it was not you, recover your account.",
        },
    }
}

const GREETING: &str = "Hi,";
