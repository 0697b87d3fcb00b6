//! The messages in Japanese.

use super::{super::template::Template, Words};

pub(super) const fn words(template: Template) -> Words {
    match template {
        Template::RecoveryCode => Words {
            greeting: GREETING,
            subject: "復元コードは {{ .RecoveryCode }} です",
            lead: "このコードを入力すると、アカウントに再びアクセスできます。",
            shown: "{{ .RecoveryCode }}",
            note: "有効期間は {{ .ExpiresIn }}で、一度だけ使えます。お心当たりがない場合は、このメッセージを無視してください。何も変更されていません。",
            short: "復元コードは {{ .RecoveryCode }} です。有効期間は {{ .ExpiresIn }}です。",
        },
        Template::VerificationCode => Words {
            greeting: GREETING,
            subject: "確認コードは {{ .VerificationCode }} です",
            lead: "このコードを入力して、アドレスを確認してください。",
            shown: "{{ .VerificationCode }}",
            note: "有効期間は {{ .ExpiresIn }}で、一度だけ使えます。お心当たりがない場合は、このメッセージを無視してください。",
            short: "確認コードは {{ .VerificationCode }} です。有効期間は {{ .ExpiresIn }}です。",
        },
        Template::LoginCode => Words {
            greeting: GREETING,
            subject: "サインインコードは {{ .LoginCode }} です",
            lead: "このコードを入力してサインインしてください。",
            shown: "{{ .LoginCode }}",
            note: "有効期間は {{ .ExpiresIn }}で、一度だけ使えます。他の人には教えないでください。お心当たりがない場合は、このメッセージを無視してください。",
            short: "サインインコードは {{ .LoginCode }} です。有効期間は {{ .ExpiresIn }}です。他の人には教えないでください。",
        },
        Template::RegistrationCode => Words {
            greeting: GREETING,
            subject: "登録コードは {{ .RegistrationCode }} です",
            lead: "このコードを入力してアカウントを作成してください。",
            shown: "{{ .RegistrationCode }}",
            note: "有効期間は {{ .ExpiresIn }}で、一度だけ使えます。お心当たりがない場合は、このメッセージを無視してください。アカウントは作成されません。",
            short: "登録コードは {{ .RegistrationCode }} です。有効期間は {{ .ExpiresIn }}です。",
        },
        Template::RecoveryLink => Words {
            greeting: GREETING,
            subject: "アカウントの復元",
            lead: "このリンクを開くと、アカウントに再びアクセスできます。",
            shown: "{{ .RecoveryURL }}",
            note: "有効期間は {{ .ExpiresIn }}で、一度だけ使えます。お心当たりがない場合は、このメッセージを無視してください。何も変更されていません。",
            short: "アカウントを復元するには、このリンクを開いてください: {{ .RecoveryURL }}",
        },
        Template::VerificationLink => Words {
            greeting: GREETING,
            subject: "アドレスの確認",
            lead: "このリンクを開いて、アドレスを確認してください。",
            shown: "{{ .VerificationURL }}",
            note: "有効期間は {{ .ExpiresIn }}で、一度だけ使えます。お心当たりがない場合は、このメッセージを無視してください。",
            short: "アドレスを確認するには、このリンクを開いてください: {{ .VerificationURL }}",
        },
        Template::CredentialChanged => Words {
            greeting: GREETING,
            subject: "アカウントが変更されました",
            lead: "{{ .Change }}",
            shown: "",
            note: "お心当たりがない場合は、すぐにアカウントを復元し、設定をご確認ください。変更日時：{{ .At }}",
            short: "{{ .Change }}お心当たりがない場合は、アカウントを復元してください。",
        },
    }
}

const GREETING: &str = "こんにちは。";
