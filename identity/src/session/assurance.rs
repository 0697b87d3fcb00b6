//! How sure we are: authentication methods, and the assurance level that they add
//! up to.

use cardea_storage::Timestamp;
use uuid::Uuid;

use crate::{schema::Channel, social::claims::Upstream};

/// Authenticator assurance level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aal {
    /// Nobody was authenticated.
    #[default]
    Aal0,
    /// By one factor.
    Aal1,
    /// By two factors of different kinds.
    Aal2,
}

impl Aal {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aal0 => "aal0",
            Self::Aal1 => "aal1",
            Self::Aal2 => "aal2",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Aal0, Self::Aal1, Self::Aal2].into_iter().find(|level| level.name() == name)
    }
}

/// A kind of credential. The numbers are kept on disk and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CredentialKind {
    /// A password.
    Password = 1,
    /// A code sent to an address.
    Code = 2,
    /// A time-based code.
    Totp = 3,
    /// A backup code.
    LookupSecret = 4,
    /// A security key.
    Webauthn = 5,
    /// A passkey.
    Passkey = 6,
    /// An account at another provider.
    Oidc = 7,
    /// A code that recovered the account.
    CodeRecovery = 8,
}

impl CredentialKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Password,
        Self::Code,
        Self::Totp,
        Self::LookupSecret,
        Self::Webauthn,
        Self::Passkey,
        Self::Oidc,
        Self::CodeRecovery,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Code => "code",
            Self::Totp => "totp",
            Self::LookupSecret => "lookup_secret",
            Self::Webauthn => "webauthn",
            Self::Passkey => "passkey",
            Self::Oidc => "oidc",
            Self::CodeRecovery => "code_recovery",
        }
    }

    /// The number on disk.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Reads the number on disk.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it may be a first factor; the others count only beside one.
    const fn is_first_factor(self) -> bool {
        matches!(
            self,
            Self::Password
                | Self::Code
                | Self::Webauthn
                | Self::Passkey
                | Self::Oidc
                | Self::CodeRecovery
        )
    }

    /// Whether it may be a second factor.
    pub const fn is_second_factor(self) -> bool {
        matches!(self, Self::Code | Self::Totp | Self::LookupSecret | Self::Webauthn)
    }
}

/// What is asked of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequiredAal {
    /// One factor.
    Aal1,
    /// As many factors as the identity has: two if it has a second one.
    #[default]
    HighestAvailable,
}

impl RequiredAal {
    /// Whether a session of that level is enough, of an identity that has a second
    /// factor or not.
    pub const fn is_met(self, session: Aal, has_second_factor: bool) -> bool {
        match (self, session) {
            (_, Aal::Aal0) => false,
            (Self::Aal1, _) | (_, Aal::Aal2) => true,
            (Self::HighestAvailable, Aal::Aal1) => !has_second_factor,
        }
    }
}

/// One completed authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticationMethod {
    /// By what.
    pub method: CredentialKind,
    /// The level it counts for.
    pub aal: Aal,
    /// When.
    pub completed_at: Timestamp,
    /// How a code came; `None` if it is none, or that is not known.
    pub via: Option<Channel>,
    /// The provider that it was an account at; `None` if it was none, or that is not known.
    pub provider: Option<String>,
    /// The organization whose provider it was.
    pub organization: Option<Uuid>,
    /// How that provider authenticated its holder, by its own account.
    pub upstream: Upstream,
}

/// The level that methods add up to: one factor gives aal1; aal2 needs a first
/// factor and a second one, or a provider whose word for both is taken. Repeating a
/// factor, or second factors alone, add nothing: an empty list is aal0.
pub fn level(methods: &[AuthenticationMethod]) -> Aal {
    let vouched = |method: &AuthenticationMethod| {
        (method.method, method.aal) == (CredentialKind::Oidc, Aal::Aal2)
    };
    let beside = |first: &AuthenticationMethod| {
        methods.iter().any(|second| second.aal == Aal::Aal2 && counts_beside(first, second))
    };
    match methods {
        [] => Aal::Aal0,
        all if all.iter().any(beside) || all.iter().any(vouched) => Aal::Aal2,
        _ => Aal::Aal1,
    }
}

/// Whether one method is a first factor, and another a second one beside it. A code is
/// none beside another that came the same way, or nobody knows how: both show the same
/// mailbox, or the same number.
pub(crate) fn counts_beside(first: &AuthenticationMethod, second: &AuthenticationMethod) -> bool {
    let comes_alike = matches!(first.method, CredentialKind::Code | CredentialKind::CodeRecovery)
        && second.method == CredentialKind::Code
        && (first.via.is_none() || first.via == second.via);
    first.method.is_first_factor()
        && first.aal == Aal::Aal1
        && second.method.is_second_factor()
        && !comes_alike
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N11: one factor, or one kind of it twice, is never two.
    #[test]
    fn two_factors_of_different_kinds_make_aal2() {
        use CredentialKind::{Code, LookupSecret, Oidc, Passkey, Password, Totp, Webauthn};
        let method = |(method, aal)| AuthenticationMethod {
            method,
            aal,
            completed_at: Timestamp::default(),
            via: None,
            provider: None,
            organization: None,
            upstream: Upstream::default(),
        };
        let table: [(&[(CredentialKind, Aal)], Aal); 14] = [
            (&[], Aal::Aal0),
            (&[(Password, Aal::Aal1)], Aal::Aal1),
            (&[(Password, Aal::Aal1), (Password, Aal::Aal1)], Aal::Aal1),
            (&[(Password, Aal::Aal1), (Code, Aal::Aal1)], Aal::Aal1),
            (&[(Password, Aal::Aal1), (Totp, Aal::Aal2)], Aal::Aal2),
            (&[(Totp, Aal::Aal2)], Aal::Aal1),
            (&[(Totp, Aal::Aal2), (LookupSecret, Aal::Aal2)], Aal::Aal1),
            (&[(Passkey, Aal::Aal1)], Aal::Aal1),
            (&[(Passkey, Aal::Aal1), (Password, Aal::Aal1)], Aal::Aal1),
            (&[(Passkey, Aal::Aal1), (Totp, Aal::Aal2)], Aal::Aal2),
            (&[(Password, Aal::Aal1), (Webauthn, Aal::Aal2)], Aal::Aal2),
            (&[(Oidc, Aal::Aal1)], Aal::Aal1),
            // A provider whose word for two factors is taken.
            (&[(Oidc, Aal::Aal2)], Aal::Aal2),
            // Nothing that is stored makes a passkey a second factor.
            (&[(Password, Aal::Aal1), (Passkey, Aal::Aal2)], Aal::Aal1),
        ];
        for (methods, expected) in table {
            let methods: Vec<_> = methods.iter().copied().map(method).collect();
            assert_eq!(level(&methods), expected, "{methods:?}");
        }
    }

    /// Who has the mailbox alone has one factor.
    #[test]
    fn a_code_is_no_second_factor_beside_one_that_came_the_same_way() {
        use CredentialKind::{Code, CodeRecovery, Password, Totp};
        let (mail, text) = (Some(Channel::Email), Some(Channel::Sms));
        for (first, second, expected) in [
            ((Password, None), (Code, mail), Aal::Aal2),
            ((Password, None), (Code, text), Aal::Aal2),
            ((Code, mail), (Code, mail), Aal::Aal1),
            ((Code, mail), (Code, text), Aal::Aal2),
            ((Code, text), (Code, text), Aal::Aal1),
            ((CodeRecovery, mail), (Code, mail), Aal::Aal1),
            ((CodeRecovery, mail), (Code, text), Aal::Aal2),
            // Written before it was kept how a code came.
            ((Code, None), (Code, text), Aal::Aal1),
            ((CodeRecovery, None), (Code, mail), Aal::Aal1),
            ((Code, None), (Totp, None), Aal::Aal2),
        ] {
            let method = |(method, via), aal| AuthenticationMethod {
                method,
                aal,
                completed_at: Timestamp::default(),
                via,
                provider: None,
                organization: None,
                upstream: Upstream::default(),
            };
            let methods = [method(first, Aal::Aal1), method(second, Aal::Aal2)];
            assert_eq!(level(&methods), expected, "{methods:?}");
        }
    }

    #[test]
    fn highest_available_asks_for_two_factors_of_those_who_have_them() {
        use RequiredAal::{Aal1, HighestAvailable};
        for (required, session, has_second, met) in [
            (Aal1, Aal::Aal0, false, false),
            (Aal1, Aal::Aal1, true, true),
            (HighestAvailable, Aal::Aal0, false, false),
            (HighestAvailable, Aal::Aal1, false, true),
            (HighestAvailable, Aal::Aal1, true, false),
            (HighestAvailable, Aal::Aal2, true, true),
            (HighestAvailable, Aal::Aal2, false, true),
        ] {
            assert_eq!(required.is_met(session, has_second), met);
        }
    }

    #[test]
    fn numbers_and_names_of_kinds_are_frozen() {
        let frozen = [
            (1, "password"),
            (2, "code"),
            (3, "totp"),
            (4, "lookup_secret"),
            (5, "webauthn"),
            (6, "passkey"),
            (7, "oidc"),
            (8, "code_recovery"),
        ];
        for (number, name) in frozen {
            let kind = CredentialKind::from_number(number).unwrap();
            assert_eq!(CredentialKind::parse(name), Some(kind));
            assert_eq!(kind.name(), name);
        }
        assert_eq!(CredentialKind::ALL.len(), frozen.len());
    }
}
