//! The messages in Spanish.

use super::{super::template::Template, Words};

pub(super) const fn words(template: Template) -> Words {
    match template {
        Template::RecoveryCode => Words {
            greeting: GREETING,
            subject: "{{ .RecoveryCode }} es su código de recuperación",
            lead: "Use este código para recuperar el acceso a su cuenta.",
            shown: "{{ .RecoveryCode }}",
            note: "Es válido durante {{ .ExpiresIn }}, una sola vez. Si no lo ha solicitado, ignore este mensaje: nada ha cambiado.",
            short: "Su código de recuperación es {{ .RecoveryCode }}. Es válido durante {{ .ExpiresIn }}.",
        },
        Template::VerificationCode => Words {
            greeting: GREETING,
            subject: "{{ .VerificationCode }} es su código de verificación",
            lead: "Use este código para verificar su dirección.",
            shown: "{{ .VerificationCode }}",
            note: "Es válido durante {{ .ExpiresIn }}, una sola vez. Si no lo ha solicitado, ignore este mensaje.",
            short: "Su código de verificación es {{ .VerificationCode }}. Es válido durante {{ .ExpiresIn }}.",
        },
        Template::LoginCode => Words {
            greeting: GREETING,
            subject: "{{ .LoginCode }} es su código de acceso",
            lead: "Use este código para iniciar sesión.",
            shown: "{{ .LoginCode }}",
            note: "Es válido durante {{ .ExpiresIn }}, una sola vez. Solo usted lo necesita: no lo comparta. Si no lo ha solicitado, ignore este mensaje.",
            short: "Su código de acceso es {{ .LoginCode }}. Es válido durante {{ .ExpiresIn }}. No lo comparta.",
        },
        Template::RegistrationCode => Words {
            greeting: GREETING,
            subject: "{{ .RegistrationCode }} es su código de registro",
            lead: "Use este código para crear su cuenta.",
            shown: "{{ .RegistrationCode }}",
            note: "Es válido durante {{ .ExpiresIn }}, una sola vez. Si no lo ha solicitado, ignore este mensaje: no se crea ninguna cuenta.",
            short: "Su código de registro es {{ .RegistrationCode }}. Es válido durante {{ .ExpiresIn }}.",
        },
        Template::RecoveryLink => Words {
            greeting: GREETING,
            subject: "Recupere su cuenta",
            lead: "Siga este enlace para recuperar el acceso a su cuenta.",
            shown: "{{ .RecoveryURL }}",
            note: "Es válido durante {{ .ExpiresIn }}, una sola vez. Si no lo ha solicitado, ignore este mensaje: nada ha cambiado.",
            short: "Siga este enlace para recuperar el acceso a su cuenta: {{ .RecoveryURL }}",
        },
        Template::VerificationLink => Words {
            greeting: GREETING,
            subject: "Verifique su dirección",
            lead: "Siga este enlace para verificar su dirección.",
            shown: "{{ .VerificationURL }}",
            note: "Es válido durante {{ .ExpiresIn }}, una sola vez. Si no lo ha solicitado, ignore este mensaje.",
            short: "Siga este enlace para verificar su dirección: {{ .VerificationURL }}",
        },
        Template::CredentialChanged => Words {
            greeting: GREETING,
            subject: "Su cuenta ha cambiado",
            lead: "{{ .Change }}",
            shown: "",
            note: "Si no ha sido usted, recupere su cuenta de inmediato y revise su configuración. Hora del cambio: {{ .At }}.",
            short: "{{ .Change }} Si no ha sido usted, recupere su cuenta.",
        },
    }
}

const GREETING: &str = "Hola:";
