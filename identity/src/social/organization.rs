//! Organizations: companies whose people sign in through their company's own providers,
//! and by nothing else.

use std::sync::Arc;

use uuid::Uuid;

/// An organization as an operator configured it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id: what identities and providers name it by.
    pub id: Uuid,
    /// What people call it.
    pub label: String,
    /// The domains of its e-mail addresses.
    pub domains: Vec<String>,
}

impl Organization {
    /// Whether an e-mail address is of one of its domains.
    pub(crate) fn has(&self, email: &str) -> bool {
        is_of(email, &self.domains)
    }
}

/// Whether an e-mail address is of one of these domains. Only one `@`, so that nobody reads
/// another domain than whoever verified the address or delivers the mail.
pub(super) fn is_of(email: &str, domains: &[String]) -> bool {
    let mut parts = email.split('@');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(local), Some(domain), None) if !local.is_empty() => {
            domains.iter().any(|own| own.eq_ignore_ascii_case(domain))
        }
        _ => false,
    }
}

/// All organizations.
#[derive(Debug, Clone, Default)]
pub struct Organizations(Arc<Vec<Organization>>);

impl Organizations {
    /// These.
    pub fn new(organizations: Vec<Organization>) -> Self {
        Self(Arc::new(organizations))
    }

    /// The one of that id.
    pub fn get(&self, id: Uuid) -> Option<&Organization> {
        self.0.iter().find(|organization| organization.id == id)
    }

    /// The one that an e-mail address belongs to.
    pub fn of_email(&self, email: &str) -> Option<&Organization> {
        self.0.iter().find(|organization| organization.has(email))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_belongs_to_whom_its_domain_does() {
        let acme = Organization {
            id: Uuid::from_u128(7),
            label: "Acme".to_owned(),
            domains: vec!["acme.example".to_owned()],
        };
        let all = Organizations::new(vec![acme.clone()]);
        assert_eq!(all.get(acme.id), Some(&acme));
        assert_eq!(all.of_email("ann@ACME.example"), Some(&acme));
        for other in ["ann@acme.example@evil.example", "@acme.example", "ann@sub.acme.example", ""]
        {
            assert_eq!(all.of_email(other), None, "{other}");
        }
    }
}
