//! Which hooks there are, and which of them run on what occasion.

use std::sync::Arc;

use cardea_storage::Secret;

use crate::{flow::Purpose, outbound::request::Request};

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// When a flow begins.
    Before,
    /// When it completes.
    After,
}

impl Moment {
    /// The name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }

    /// Reads the name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Before, Self::After].into_iter().find(|moment| moment.name() == name)
    }
}

/// What a hook does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Logs in who has signed up.
    Session,
    /// Ends all other sessions of the identity.
    RevokeActiveSessions,
    /// Lets nobody log in who has no verified address.
    RequireVerifiedAddress,
    /// Leads to the verification that has begun. It always does here.
    ShowVerificationUi,
    /// Begins to verify an address that is new.
    Verification,
    /// Lets a change of an address wait until the new one is verified.
    VerifyNewAddress,
    /// Tells the addresses that an identity had, when they change.
    NotifyPreviousAddresses,
    /// Lets who belongs to an organization in by its providers alone.
    BindToOrganization,
    /// Asks or tells another server.
    WebHook(Arc<WebHook>),
}

/// What becomes of a web hook's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// Nobody waits for it: the call goes through the outbox.
    Ignored,
    /// It must be one of success.
    Awaited,
    /// The same, and it may change the identity.
    Parsed,
}

/// A server to be asked or told.
#[derive(Debug, Clone)]
pub struct WebHook {
    /// What calls and logs name it by.
    pub id: String,
    /// Where it is, and what it is sent.
    pub request: Request,
    /// The key of signatures; `None`: calls are not signed.
    pub signing: Option<Secret<Vec<u8>>>,
    /// What becomes of its answer.
    pub response: Response,
    /// Whether its refusal is shown in the form.
    pub can_interrupt: bool,
}

/// A hook in its place.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Of which flows.
    pub purpose: Purpose,
    /// When.
    pub moment: Moment,
    /// After which method; `None`: after all that have none of their own.
    pub method: Option<String>,
    /// What it does.
    pub action: Action,
}

/// All hooks, in order.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    hooks: Arc<[Hook]>,
}

impl Hooks {
    /// These, in this order.
    pub fn new(hooks: Vec<Hook>) -> Self {
        Self { hooks: hooks.into() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// The web hook of that id.
    pub fn web_hook(&self, id: &str) -> Option<&Arc<WebHook>> {
        self.hooks.iter().find_map(|hook| match &hook.action {
            Action::WebHook(web_hook) if web_hook.id == id => Some(web_hook),
            _ => None,
        })
    }

    /// What runs on an occasion, in order.
    pub fn at(
        &self,
        purpose: Purpose,
        moment: Moment,
        method: &str,
    ) -> impl Iterator<Item = &Action> {
        let here = move |hook: &&Hook| hook.purpose == purpose && hook.moment == moment;
        let is_own = move |hook: &Hook| hook.method.as_deref() == Some(method);
        let has_own = self.hooks.iter().filter(here).any(is_own);
        self.hooks
            .iter()
            .filter(here)
            .filter(move |hook| if has_own { is_own(hook) } else { hook.method.is_none() })
            .map(|hook| &hook.action)
    }

    /// Whether one of ours runs after a method.
    pub fn runs(&self, purpose: Purpose, method: &str, wanted: fn(&Action) -> bool) -> bool {
        self.at(purpose, Moment::After, method).any(wanted)
    }

    /// Whether one of ours runs after any method of these flows.
    pub fn names(&self, purpose: Purpose, wanted: fn(&Action) -> bool) -> bool {
        self.hooks.iter().any(|hook| hook.purpose == purpose && wanted(&hook.action))
    }
}

impl Action {
    pub(crate) const fn is_session(&self) -> bool {
        matches!(self, Self::Session)
    }

    pub(crate) const fn revokes(&self) -> bool {
        matches!(self, Self::RevokeActiveSessions)
    }

    pub(crate) const fn requires_verified(&self) -> bool {
        matches!(self, Self::RequireVerifiedAddress)
    }

    pub(crate) const fn verifies(&self) -> bool {
        matches!(self, Self::Verification)
    }

    pub(crate) const fn verifies_first(&self) -> bool {
        matches!(self, Self::VerifyNewAddress)
    }

    pub(crate) const fn binds(&self) -> bool {
        matches!(self, Self::BindToOrganization)
    }

    pub(crate) const fn notifies(&self) -> bool {
        matches!(self, Self::NotifyPreviousAddresses)
    }
}

#[cfg(test)]
mod plan_tests {
    use super::*;

    #[test]
    fn hooks_of_a_method_stand_in_place_of_those_of_all() {
        let hook = |method: Option<&str>, action| Hook {
            purpose: Purpose::Login,
            moment: Moment::After,
            method: method.map(str::to_owned),
            action,
        };
        let hooks = Hooks::new(vec![
            hook(None, Action::RevokeActiveSessions),
            hook(Some("password"), Action::RequireVerifiedAddress),
            Hook { moment: Moment::Before, ..hook(None, Action::Verification) },
        ]);
        let runs = |method, wanted| hooks.runs(Purpose::Login, method, wanted);
        assert!(runs("oidc", Action::revokes) && !runs("password", Action::revokes));
        assert!(runs("password", Action::requires_verified));
        assert!(!runs("oidc", Action::verifies), "that one runs before");
        assert!(!hooks.runs(Purpose::Settings, "oidc", Action::revokes));
        assert!(hooks.names(Purpose::Login, Action::requires_verified));
        assert!(hooks.web_hook("x").is_none());
    }
}
