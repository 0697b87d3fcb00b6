//! The messages in French.

use super::{super::template::Template, Words};

pub(super) const fn words(template: Template) -> Words {
    match template {
        Template::RecoveryCode => Words {
            greeting: GREETING,
            subject: "{{ .RecoveryCode }} est votre code de récupération",
            lead: "Utilisez ce code pour retrouver l’accès à votre compte.",
            shown: "{{ .RecoveryCode }}",
            note: "Il est valable {{ .ExpiresIn }}, une seule fois. Si vous ne l’avez pas demandé, ignorez ce message : rien n’a changé.",
            short: "Votre code de récupération est {{ .RecoveryCode }}. Il est valable {{ .ExpiresIn }}.",
        },
        Template::VerificationCode => Words {
            greeting: GREETING,
            subject: "{{ .VerificationCode }} est votre code de vérification",
            lead: "Utilisez ce code pour vérifier votre adresse.",
            shown: "{{ .VerificationCode }}",
            note: "Il est valable {{ .ExpiresIn }}, une seule fois. Si vous ne l’avez pas demandé, ignorez ce message.",
            short: "Votre code de vérification est {{ .VerificationCode }}. Il est valable {{ .ExpiresIn }}.",
        },
        Template::LoginCode => Words {
            greeting: GREETING,
            subject: "{{ .LoginCode }} est votre code de connexion",
            lead: "Utilisez ce code pour vous connecter.",
            shown: "{{ .LoginCode }}",
            note: "Il est valable {{ .ExpiresIn }}, une seule fois. Vous seul en avez besoin : ne le transmettez à personne. Si vous ne l’avez pas demandé, ignorez ce message.",
            short: "Votre code de connexion est {{ .LoginCode }}. Il est valable {{ .ExpiresIn }}. Ne le transmettez à personne.",
        },
        Template::RegistrationCode => Words {
            greeting: GREETING,
            subject: "{{ .RegistrationCode }} est votre code d’inscription",
            lead: "Utilisez ce code pour créer votre compte.",
            shown: "{{ .RegistrationCode }}",
            note: "Il est valable {{ .ExpiresIn }}, une seule fois. Si vous ne l’avez pas demandé, ignorez ce message : aucun compte n’est créé.",
            short: "Votre code d’inscription est {{ .RegistrationCode }}. Il est valable {{ .ExpiresIn }}.",
        },
        Template::RecoveryLink => Words {
            greeting: GREETING,
            subject: "Récupérez votre compte",
            lead: "Suivez ce lien pour retrouver l’accès à votre compte.",
            shown: "{{ .RecoveryURL }}",
            note: "Il est valable {{ .ExpiresIn }}, une seule fois. Si vous ne l’avez pas demandé, ignorez ce message : rien n’a changé.",
            short: "Suivez ce lien pour retrouver l’accès à votre compte : {{ .RecoveryURL }}",
        },
        Template::VerificationLink => Words {
            greeting: GREETING,
            subject: "Vérifiez votre adresse",
            lead: "Suivez ce lien pour vérifier votre adresse.",
            shown: "{{ .VerificationURL }}",
            note: "Il est valable {{ .ExpiresIn }}, une seule fois. Si vous ne l’avez pas demandé, ignorez ce message.",
            short: "Suivez ce lien pour vérifier votre adresse : {{ .VerificationURL }}",
        },
        Template::CredentialChanged => Words {
            greeting: GREETING,
            subject: "Votre compte a été modifié",
            lead: "{{ .Change }}",
            shown: "",
            note: "Si ce n’était pas vous, récupérez votre compte sans tarder et vérifiez ses paramètres. Heure de la modification : {{ .At }}.",
            short: "{{ .Change }} Si ce n’était pas vous, récupérez votre compte.",
        },
    }
}

const GREETING: &str = "Bonjour,";
