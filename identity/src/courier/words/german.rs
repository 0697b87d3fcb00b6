//! The messages in German.

use super::{super::template::Template, Words};

pub(super) const fn words(template: Template) -> Words {
    match template {
        Template::RecoveryCode => Words {
            greeting: GREETING,
            subject: "{{ .RecoveryCode }} ist Ihr Wiederherstellungscode",
            lead: "Mit diesem Code kommen Sie wieder in Ihr Konto.",
            shown: "{{ .RecoveryCode }}",
            note: "Er gilt {{ .ExpiresIn }} lang, einmal. Falls Sie ihn nicht angefordert haben, beachten Sie diese Nachricht nicht: Es hat sich nichts geändert.",
            short: "Ihr Wiederherstellungscode ist {{ .RecoveryCode }}. Er gilt {{ .ExpiresIn }}.",
        },
        Template::VerificationCode => Words {
            greeting: GREETING,
            subject: "{{ .VerificationCode }} ist Ihr Bestätigungscode",
            lead: "Mit diesem Code bestätigen Sie Ihre Adresse.",
            shown: "{{ .VerificationCode }}",
            note: "Er gilt {{ .ExpiresIn }} lang, einmal. Falls Sie ihn nicht angefordert haben, beachten Sie diese Nachricht nicht.",
            short: "Ihr Bestätigungscode ist {{ .VerificationCode }}. Er gilt {{ .ExpiresIn }}.",
        },
        Template::LoginCode => Words {
            greeting: GREETING,
            subject: "{{ .LoginCode }} ist Ihr Anmeldecode",
            lead: "Mit diesem Code melden Sie sich an.",
            shown: "{{ .LoginCode }}",
            note: "Er gilt {{ .ExpiresIn }} lang, einmal. Niemand außer Ihnen braucht ihn: Geben Sie ihn nicht weiter. Falls Sie ihn nicht angefordert haben, beachten Sie diese Nachricht nicht.",
            short: "Ihr Anmeldecode ist {{ .LoginCode }}. Er gilt {{ .ExpiresIn }}. Geben Sie ihn nicht weiter.",
        },
        Template::RegistrationCode => Words {
            greeting: GREETING,
            subject: "{{ .RegistrationCode }} ist Ihr Registrierungscode",
            lead: "Mit diesem Code legen Sie Ihr Konto an.",
            shown: "{{ .RegistrationCode }}",
            note: "Er gilt {{ .ExpiresIn }} lang, einmal. Falls Sie ihn nicht angefordert haben, beachten Sie diese Nachricht nicht: Es wird kein Konto angelegt.",
            short: "Ihr Registrierungscode ist {{ .RegistrationCode }}. Er gilt {{ .ExpiresIn }}.",
        },
        Template::RecoveryLink => Words {
            greeting: GREETING,
            subject: "Konto wiederherstellen",
            lead: "Über diesen Link kommen Sie wieder in Ihr Konto.",
            shown: "{{ .RecoveryURL }}",
            note: "Er gilt {{ .ExpiresIn }} lang, einmal. Falls Sie ihn nicht angefordert haben, beachten Sie diese Nachricht nicht: Es hat sich nichts geändert.",
            short: "Über diesen Link kommen Sie wieder in Ihr Konto: {{ .RecoveryURL }}",
        },
        Template::VerificationLink => Words {
            greeting: GREETING,
            subject: "Adresse bestätigen",
            lead: "Über diesen Link bestätigen Sie Ihre Adresse.",
            shown: "{{ .VerificationURL }}",
            note: "Er gilt {{ .ExpiresIn }} lang, einmal. Falls Sie ihn nicht angefordert haben, beachten Sie diese Nachricht nicht.",
            short: "Über diesen Link bestätigen Sie Ihre Adresse: {{ .VerificationURL }}",
        },
        Template::CredentialChanged => Words {
            greeting: GREETING,
            subject: "Ihr Konto wurde geändert",
            lead: "{{ .Change }}",
            shown: "",
            note: "Falls Sie das nicht waren, stellen Sie Ihr Konto sofort wieder her und sehen Sie seine Einstellungen durch. Zeit der Änderung: {{ .At }}.",
            short: "{{ .Change }} Falls Sie das nicht waren, stellen Sie Ihr Konto wieder her.",
        },
    }
}

const GREETING: &str = "Hallo,";
