//! Telling people that how they log in has changed, at every address that they had
//! before and have now: whoever took over an account cannot change its address first and
//! go unnoticed.

use std::collections::BTreeSet;

use cardea_storage::{Slot, Transaction};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Service,
    audit::Act,
    courier::{Template, outbox::Letter},
    flow::sent_code::EMAIL,
    identity::factors::Factors,
    language::Language,
    model::Scope,
    schema::Channel,
    session::CredentialKind,
    table::IdentityRecord,
    time::rfc3339,
};

/// The most addresses that are written to.
const ADDRESSES_MAX: usize = 8;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) enum Change {
    Address,
    Password,
    TotpAdded,
    TotpRemoved,
    LookupSecretsMade,
    LookupSecretsRemoved,
    SecurityKeyAdded,
    SecurityKeyRemoved,
    PasskeyAdded,
    PasskeyRemoved,
    AccountLinked,
    AccountUnlinked,
}

impl Change {
    /// The sentence that says it.
    const fn sentence(self, language: Language) -> &'static str {
        let [english, german, french, spanish, japanese, chinese] = self.sentences();
        match language {
            Language::English => english,
            Language::German => german,
            Language::French => french,
            Language::Spanish => spanish,
            Language::Japanese => japanese,
            Language::Chinese => chinese,
        }
    }

    const fn sentences(self) -> [&'static str; 6] {
        match self {
            Self::Address => [
                "The address of your account was changed.",
                "Die Adresse Ihres Kontos wurde geändert.",
                "L’adresse de votre compte a été modifiée.",
                "La dirección de su cuenta ha cambiado.",
                "アカウントのアドレスが変更されました。",
                "您账户的地址已更改。",
            ],
            Self::Password => [
                "Your password was changed.",
                "Ihr Passwort wurde geändert.",
                "Votre mot de passe a été modifié.",
                "Su contraseña ha cambiado.",
                "パスワードが変更されました。",
                "您的密码已更改。",
            ],
            Self::TotpAdded => [
                "An authenticator app was added to your account.",
                "Ihrem Konto wurde eine Authentifizierungs-App hinzugefügt.",
                "Une application d’authentification a été ajoutée à votre compte.",
                "Se ha añadido una aplicación de autenticación a su cuenta.",
                "アカウントに認証アプリが追加されました。",
                "您的账户已添加身份验证器应用。",
            ],
            Self::TotpRemoved => [
                "The authenticator app was removed from your account.",
                "Die Authentifizierungs-App wurde aus Ihrem Konto entfernt.",
                "L’application d’authentification a été retirée de votre compte.",
                "Se ha quitado la aplicación de autenticación de su cuenta.",
                "アカウントから認証アプリが削除されました。",
                "您的账户已移除身份验证器应用。",
            ],
            Self::LookupSecretsMade => [
                "New backup codes were made for your account.",
                "Für Ihr Konto wurden neue Ersatzcodes erzeugt.",
                "De nouveaux codes de secours ont été créés pour votre compte.",
                "Se han creado nuevos códigos de respaldo para su cuenta.",
                "アカウントのバックアップコードが新しく作成されました。",
                "您的账户已生成新的备用验证码。",
            ],
            Self::LookupSecretsRemoved => [
                "The backup codes of your account were removed.",
                "Die Ersatzcodes Ihres Kontos wurden entfernt.",
                "Les codes de secours de votre compte ont été supprimés.",
                "Se han eliminado los códigos de respaldo de su cuenta.",
                "アカウントのバックアップコードが削除されました。",
                "您账户的备用验证码已移除。",
            ],
            Self::SecurityKeyAdded => [
                "A security key was added to your account.",
                "Ihrem Konto wurde ein Sicherheitsschlüssel hinzugefügt.",
                "Une clé de sécurité a été ajoutée à votre compte.",
                "Se ha añadido una llave de seguridad a su cuenta.",
                "アカウントにセキュリティキーが追加されました。",
                "您的账户已添加安全密钥。",
            ],
            Self::SecurityKeyRemoved => [
                "A security key was removed from your account.",
                "Ein Sicherheitsschlüssel wurde aus Ihrem Konto entfernt.",
                "Une clé de sécurité a été retirée de votre compte.",
                "Se ha quitado una llave de seguridad de su cuenta.",
                "アカウントからセキュリティキーが削除されました。",
                "您的账户已移除安全密钥。",
            ],
            Self::PasskeyAdded => [
                "A passkey was added to your account.",
                "Ihrem Konto wurde ein Passkey hinzugefügt.",
                "Une clé d’accès a été ajoutée à votre compte.",
                "Se ha añadido una llave de acceso a su cuenta.",
                "アカウントにパスキーが追加されました。",
                "您的账户已添加通行密钥。",
            ],
            Self::PasskeyRemoved => [
                "A passkey was removed from your account.",
                "Ein Passkey wurde aus Ihrem Konto entfernt.",
                "Une clé d’accès a été retirée de votre compte.",
                "Se ha quitado una llave de acceso de su cuenta.",
                "アカウントからパスキーが削除されました。",
                "您的账户已移除通行密钥。",
            ],
            Self::AccountLinked => [
                "An account at another provider was linked to yours.",
                "Ein Konto bei einem anderen Anbieter wurde mit Ihrem verknüpft.",
                "Un compte chez un autre fournisseur a été lié au vôtre.",
                "Se ha vinculado a la suya una cuenta de otro proveedor.",
                "他のプロバイダーのアカウントがお客様のアカウントに連携されました。",
                "您的账户已关联另一提供商的账户。",
            ],
            Self::AccountUnlinked => [
                "An account at another provider was unlinked from yours.",
                "Ein Konto bei einem anderen Anbieter wurde von Ihrem getrennt.",
                "Un compte chez un autre fournisseur a été dissocié du vôtre.",
                "Se ha desvinculado de la suya una cuenta de otro proveedor.",
                "他のプロバイダーのアカウントの連携が解除されました。",
                "您的账户已取消关联另一提供商的账户。",
            ],
        }
    }
}

/// The ids of messages, drawn once, whatever often the transaction is tried.
pub(in crate::flow) struct News(Vec<Uuid>);

/// The event of a change of settings by a method; what the factors are since.
pub(super) fn event(news: Option<Change>, method: &str, factors: &Factors) -> (Act, Value) {
    let added = |kind: CredentialKind| {
        (Act::CredentialChanged, json!({"type": kind.name(), "change": "added"}))
    };
    let removed = |kind: CredentialKind| {
        let act = if factors.has(kind) { Act::CredentialChanged } else { Act::CredentialRemoved };
        (act, json!({"type": kind.name(), "change": "removed"}))
    };
    match news {
        None => (Act::IdentityChanged, json!({"method": method})),
        Some(Change::Address) => (Act::IdentityChanged, json!({"method": method, "address": true})),
        Some(Change::Password) => (Act::CredentialChanged, json!({"type": "password"})),
        Some(Change::TotpAdded) => added(CredentialKind::Totp),
        Some(Change::TotpRemoved) => removed(CredentialKind::Totp),
        Some(Change::LookupSecretsMade) => added(CredentialKind::LookupSecret),
        Some(Change::LookupSecretsRemoved) => removed(CredentialKind::LookupSecret),
        Some(Change::SecurityKeyAdded) => added(CredentialKind::Webauthn),
        Some(Change::SecurityKeyRemoved) => removed(CredentialKind::Webauthn),
        Some(Change::PasskeyAdded) => added(CredentialKind::Passkey),
        Some(Change::PasskeyRemoved) => removed(CredentialKind::Passkey),
        Some(Change::AccountLinked) => added(CredentialKind::Oidc),
        Some(Change::AccountUnlinked) => removed(CredentialKind::Oidc),
    }
}

impl Service {
    pub(in crate::flow) fn draw_news(&self, subject: Uuid, method: &str) -> News {
        if !self.settings.notify_changes && !self.notifies_addresses(method) {
            return News(Vec::new());
        }
        News((0..ADDRESSES_MAX).map(|_| self.draw_message(Slot::of_id(&subject))).collect())
    }

    /// Writes the messages; says whether there are any.
    pub(in crate::flow) fn tell(
        &self,
        t: &Transaction,
        scope: Scope,
        (before, after): (&IdentityRecord, &IdentityRecord),
        news: &News,
        change: Change,
    ) -> bool {
        let records = [before, after];
        let all =
            records.iter().flat_map(|record| record.verifiable.iter().chain(&record.recovery));
        let mails = all.filter(|address| address.via == EMAIL);
        let addresses: BTreeSet<&str> = mails.map(|address| address.value.as_str()).collect();
        // Of somebody else's doing it may be: not in the language of who did it.
        let language = self.settings.language;
        let sentence = change.sentence(language);
        for (id, address) in news.0.iter().zip(&addresses) {
            let at = rfc3339(t.now());
            let letter = Letter {
                id: *id,
                template: Template::CredentialChanged,
                recipient: address,
                via: Channel::Email,
                language: Some(language),
                model: &json!({"To": address, "Change": sentence, "At": at}),
                decoy: false,
            };
            self.post(t, scope, &letter);
        }
        !news.0.is_empty() && !addresses.is_empty()
    }
}
