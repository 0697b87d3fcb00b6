//! The messages in Chinese.

use super::{super::template::Template, Words};

pub(super) const fn words(template: Template) -> Words {
    match template {
        Template::RecoveryCode => Words {
            greeting: GREETING,
            subject: "您的恢复代码是 {{ .RecoveryCode }}",
            lead: "请使用此代码恢复对帐户的访问。",
            shown: "{{ .RecoveryCode }}",
            note: "代码在 {{ .ExpiresIn }}内有效，只能使用一次。如果这不是您的请求，请忽略此消息：没有任何更改。",
            short: "您的恢复代码是 {{ .RecoveryCode }}，{{ .ExpiresIn }}内有效。",
        },
        Template::VerificationCode => Words {
            greeting: GREETING,
            subject: "您的验证码是 {{ .VerificationCode }}",
            lead: "请使用此代码验证您的地址。",
            shown: "{{ .VerificationCode }}",
            note: "代码在 {{ .ExpiresIn }}内有效，只能使用一次。如果这不是您的请求，请忽略此消息。",
            short: "您的验证码是 {{ .VerificationCode }}，{{ .ExpiresIn }}内有效。",
        },
        Template::LoginCode => Words {
            greeting: GREETING,
            subject: "您的登录代码是 {{ .LoginCode }}",
            lead: "请使用此代码登录。",
            shown: "{{ .LoginCode }}",
            note: "代码在 {{ .ExpiresIn }}内有效，只能使用一次。请勿将它告诉任何人。如果这不是您的请求，请忽略此消息。",
            short: "您的登录代码是 {{ .LoginCode }}，{{ .ExpiresIn }}内有效。请勿告诉他人。",
        },
        Template::RegistrationCode => Words {
            greeting: GREETING,
            subject: "您的注册代码是 {{ .RegistrationCode }}",
            lead: "请使用此代码创建您的帐户。",
            shown: "{{ .RegistrationCode }}",
            note: "代码在 {{ .ExpiresIn }}内有效，只能使用一次。如果这不是您的请求，请忽略此消息：不会创建帐户。",
            short: "您的注册代码是 {{ .RegistrationCode }}，{{ .ExpiresIn }}内有效。",
        },
        Template::RecoveryLink => Words {
            greeting: GREETING,
            subject: "恢复您的帐户",
            lead: "请打开此链接恢复对帐户的访问。",
            shown: "{{ .RecoveryURL }}",
            note: "链接在 {{ .ExpiresIn }}内有效，只能使用一次。如果这不是您的请求，请忽略此消息：没有任何更改。",
            short: "请打开此链接恢复帐户：{{ .RecoveryURL }}",
        },
        Template::VerificationLink => Words {
            greeting: GREETING,
            subject: "验证您的地址",
            lead: "请打开此链接验证您的地址。",
            shown: "{{ .VerificationURL }}",
            note: "链接在 {{ .ExpiresIn }}内有效，只能使用一次。如果这不是您的请求，请忽略此消息。",
            short: "请打开此链接验证地址：{{ .VerificationURL }}",
        },
        Template::CredentialChanged => Words {
            greeting: GREETING,
            subject: "您的账户已更改",
            lead: "{{ .Change }}",
            shown: "",
            note: "如果不是您本人操作，请立即恢复账户并检查设置。更改时间：{{ .At }}",
            short: "{{ .Change }}如果不是您本人操作，请恢复账户。",
        },
    }
}

const GREETING: &str = "您好，";
