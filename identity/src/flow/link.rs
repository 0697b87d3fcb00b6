//! Links in place of codes: whoever follows one shows that the address is its own. The
//! token in it takes the place of a code in all that [`code`](super::code) says: it is
//! charged, kept as a keyed digest, good for its flow and address, once.
//!
//! A mail is often read in another browser than the one that asked for it, or on another
//! device. So it is the token alone that counts, and whoever brings the right one has the
//! flow from then on.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::Secret;
use serde_json::{Value, json};

use super::{
    Flow, Purpose,
    begin::{BeginRejection, csrf_bytes},
    code::{BeginCode, CodeSubmission},
};
use crate::{
    Service,
    courier::Template,
    model::{Client, CsrfDigest, FlowId, Scope},
    schema::{Address, Channel},
    table::FlowRecord,
    ui::Text,
};

/// Random bytes of a link's token.
const TOKEN_BYTES: usize = 24;

/// How somebody shows that an address is its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AddressProof {
    /// By a code that was sent there.
    #[default]
    Code,
    /// By following a link that was sent there.
    Link,
}

impl AddressProof {
    /// The name of the method on the wire and on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Link => "link",
        }
    }

    /// That of a recovery or verification.
    pub(super) fn of(record: &FlowRecord) -> Self {
        if record.active == Self::Link.name() { Self::Link } else { Self::Code }
    }

    /// The message that brings the proof.
    pub(super) const fn template(self, purpose: Purpose) -> Template {
        match (self, purpose) {
            (Self::Code, Purpose::Recovery) => Template::RecoveryCode,
            (Self::Code, _) => Template::VerificationCode,
            (Self::Link, Purpose::Recovery) => Template::RecoveryLink,
            (Self::Link, _) => Template::VerificationLink,
        }
    }

    /// What is said once it was sent.
    pub(super) fn sent(self, purpose: Purpose, to: &Address) -> Text {
        match (self, to.via) {
            (Self::Code, Channel::Email) => Text::code_sent(purpose),
            (Self::Link, Channel::Email) => Text::link_sent(purpose),
            (Self::Code, Channel::Sms) => Text::code_sent_to_number(purpose, &to.value),
            (Self::Link, Channel::Sms) => Text::link_sent_to_number(purpose, &to.value),
        }
    }

    /// What is said of one that is wrong, over, or was used.
    pub(super) fn invalid(self, purpose: Purpose) -> Text {
        match self {
            Self::Code => Text::code_invalid(purpose),
            Self::Link => Text::link_invalid(purpose),
        }
    }
}

impl CodeSubmission {
    /// What a link brings that a browser follows.
    pub fn followed(token: String, browser: CsrfDigest) -> Self {
        Self { token: Some((Secret::new(token), browser)), ..Self::default() }
    }
}

impl Service {
    /// How addresses are proven in flows that begin now.
    pub(super) const fn proof_for(&self, purpose: Purpose) -> AddressProof {
        match purpose {
            Purpose::Recovery => self.settings.recovery_proof,
            _ => self.settings.verification_proof,
        }
    }

    /// Begins a recovery or verification for who followed a link that is no good, and says
    /// so in it.
    ///
    /// # Errors
    /// See [`BeginRejection`].
    pub async fn begin_after_link(
        &self,
        scope: Scope,
        purpose: Purpose,
        begin: BeginCode,
    ) -> Result<Flow, BeginRejection> {
        let mut record = self.new_flow(purpose, begin.request_url, begin.return_to)?;
        record.csrf_digest = csrf_bytes(begin.browser);
        record.active = self.proof_for(purpose).name().to_owned();
        let mut flow = self.keep_begun(scope, record, false, &begin.client).await?;
        flow.ui.messages.push(Text::link_invalid(purpose));
        self.keep_form(scope, &flow).await?;
        Ok(flow)
    }

    /// The token of a link.
    pub(super) fn draw_token(&self) -> Secret<String> {
        let token: [u8; TOKEN_BYTES] = self.store.entropy().bytes();
        Secret::new(URL_SAFE_NO_PAD.encode(token))
    }

    /// A code or the token of a link: what a message is to bring.
    pub(super) fn draw_proof(&self, template: Template) -> Secret<String> {
        if template.is_link() { self.draw_token() } else { self.draw_code() }
    }

    /// How long what a message brings is good.
    pub(super) const fn proof_lifespan(&self, template: Template) -> Duration {
        if template.is_link() { self.settings.link_lifespan } else { self.settings.code_lifespan }
    }

    /// What a message is filled with that brings a code or a link.
    pub(super) fn proof_model(
        &self,
        (template, flow): (Template, FlowId),
        address: &str,
        proof: &Secret<String>,
        client: &Client,
    ) -> Value {
        if !template.is_link() {
            return self.code_model(template, address, proof, client);
        }
        let purpose = if template == Template::RecoveryLink {
            Purpose::Recovery
        } else {
            Purpose::Verification
        };
        json!({
            "To": address,
            template.proof_field(): self.link(purpose, flow, proof),
            "ExpiresInMinutes": self.settings.link_lifespan.as_secs().div_ceil(60),
            "RequestURLDomain": self.public_host(),
            "TransientPayload": client.transient_payload,
        })
    }

    /// The link with a token.
    pub fn link(&self, purpose: Purpose, flow: FlowId, token: &Secret<String>) -> String {
        let (public_url, name) = (&self.settings.public_url, purpose.name());
        format!("{public_url}/self-service/{name}?flow={flow}&token={}", token.expose())
    }
}
