//! Where a browser may ask providers itself (FedCM): what it asks with stands in a form that
//! nobody sees, and a script hands that to the browser when the provider's button is pressed.
//! Without the script, or in a browser that cannot, the button does what it did.

use std::sync::LazyLock;

use axum::response::Response;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cardea_identity::flow::{FedcmProvider, Flow, FlowState};
use http::{HeaderMap, Uri};
use maud::{Markup, html};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::{layout::Loaded, scripted};
use crate::{
    kratos::{Kratos, csrf::CsrfSecret, fedcm::FIELDS, flow::with_return},
    request::Caller,
};

/// Where the script is.
pub(in crate::kratos) const SCRIPT: &str = "/ui/fedcm.js";
const TEXT: &str = include_str!("fedcm.js");
const TOKEN: &str = "/self-service/fed-cm/token";

static INTEGRITY: LazyLock<String> =
    LazyLock::new(|| format!("sha512-{}", STANDARD.encode(Sha512::digest(TEXT.as_bytes()))));

pub(in crate::kratos) async fn script(_caller: Caller) -> Response {
    scripted(TEXT)
}

/// What a browser may ask.
#[derive(Debug)]
pub(super) struct Asked {
    providers: Vec<FedcmProvider>,
    csrf_token: String,
    action: String,
}

impl Asked {
    /// What it may ask from the page of a flow: nothing if the flow is more than a login.
    pub(super) fn of(
        kratos: &Kratos,
        caller: &Caller,
        flow: &Flow,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let plain = flow.organization.is_none() && !flow.refresh;
        if !plain || flow.state != FlowState::ChooseMethod {
            return None;
        }
        let secret = CsrfSecret::of(headers, kratos.csrf_cookie())?;
        let providers = kratos.service().fedcm_providers(caller.scope, secret.digest());
        let back = flow.return_to.as_deref();
        let action = back.map_or_else(|| TOKEN.to_owned(), |back| with_return(TOKEN, back));
        let csrf_token = secret.token(kratos.service().entropy());
        (!providers.is_empty()).then_some(Self { providers, csrf_token, action })
    }

    /// The form that is sent by the script alone.
    pub(super) fn html(&self) -> Markup {
        let asked: Vec<Value> = self.providers.iter().map(options).collect();
        html! {
            form id="fedcm" method="post" action=(self.action) hidden
                data-providers=(Value::Array(asked)) {
                input type="hidden" name="csrf_token" value=(self.csrf_token);
                input type="hidden" name="token";
            }
        }
    }

    /// The script.
    pub(super) fn script(&self, kratos: &Kratos) -> Loaded {
        let src = format!("{}{SCRIPT}", kratos.public_url());
        Loaded { src, integrity: INTEGRITY.clone() }
    }

    /// Whom the browser connects to.
    pub(super) fn origins(&self) -> Vec<String> {
        let origin = |provider: &FedcmProvider| {
            let url: Uri = provider.config_url.parse().ok()?;
            Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
        };
        let mut all: Vec<_> = self.providers.iter().filter_map(origin).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// As `navigator.credentials.get` takes it, with the provider's id.
fn options(provider: &FedcmProvider) -> Value {
    let FedcmProvider { id, client_id, config_url, nonce, scope } = provider;
    json!({
        "id": id,
        "configURL": config_url,
        "clientId": client_id,
        "nonce": nonce,
        "fields": FIELDS,
        "params": {"nonce": nonce, "scope": scope},
    })
}
