//! Passwords that were found in breaches, as a server tells that speaks the range
//! protocol of Have I Been Pwned (<https://haveibeenpwned.com/API/v3#PwnedPasswords>).
//!
//! Of the 40 hexadecimal digits of a password's SHA-1 the server is sent the first five,
//! and answers with the rest of every digest that it knows to begin so. Answers are
//! padded, so that their length does not tell which range was asked for; padding counts
//! no breaches.

use std::time::Duration;

use bytes::Bytes;
use cardea_storage::Secret;
use sha1::{Digest as _, Sha1};
use thiserror::Error;

use crate::outbound::{Outbound, Question, Unanswered, Verb};

/// Digits that the server is sent.
const PREFIX_DIGITS: usize = 5;

/// The server that is asked, and what follows from its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaches {
    /// Where it is, without a slash at the end.
    pub url: String,
    /// How often a password may have been found.
    pub found_max: u64,
    /// Whether a password is taken of which the server says nothing.
    pub errors_ignored: bool,
    /// How long it may take to answer.
    pub within: Duration,
}

impl Default for Breaches {
    /// The public server, which must not know the password; without an answer it is taken.
    fn default() -> Self {
        Self {
            url: "https://api.pwnedpasswords.com".to_owned(),
            found_max: 0,
            errors_ignored: true,
            within: Duration::from_secs(2),
        }
    }
}

/// Why it is not known how often a password was found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotToldOf {
    /// The server did not answer.
    #[error("no answer about breached passwords")]
    Unanswered(#[from] Unanswered),
    /// It refused.
    #[error("the server of breached passwords answered with status {0}")]
    Status(u16),
    /// What it said is no range.
    #[error("the server of breached passwords did not answer with a range")]
    NoRange,
}

impl Breaches {
    /// Whether a password may be used, as far as the server knows.
    ///
    /// # Errors
    /// If it does not say, and that is not ignored.
    pub(crate) async fn lets_pass(
        &self,
        outbound: &dyn Outbound,
        password: &str,
    ) -> Result<bool, NotToldOf> {
        match self.count(outbound, password).await {
            Ok(count) => Ok(count <= self.found_max),
            Err(error) if self.errors_ignored => {
                tracing::warn!(%error, "a password was taken without asking whether it was breached");
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(%error, "a password was refused: nobody said whether it was breached");
                Err(error)
            }
        }
    }

    /// How often a password was found.
    async fn count(&self, outbound: &dyn Outbound, password: &str) -> Result<u64, NotToldOf> {
        let digits = digits(password);
        let (prefix, rest) = digits.split_at(PREFIX_DIGITS);
        let header = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
        let question = Question {
            verb: Verb::Get,
            url: format!("{}/range/{prefix}", self.url),
            headers: vec![
                header("accept", "text/plain"),
                header("add-padding", "true"),
                header("user-agent", "cardea"),
            ],
            body: Bytes::new(),
            within: Some(self.within),
        };
        let reply = outbound.ask(question).await?;
        if !reply.is_success() {
            return Err(NotToldOf::Status(reply.status));
        }
        let range = std::str::from_utf8(&reply.body).map_err(|_| NotToldOf::NoRange)?;
        count_in(range, rest).ok_or(NotToldOf::NoRange)
    }
}

/// The SHA-1 of a password in upper-case hexadecimal digits.
fn digits(password: &str) -> String {
    use std::fmt::Write as _;
    let digest = Sha1::digest(password.as_bytes());
    digest.iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// What a range counts for the rest of a digest; `None` if it is no range.
fn count_in(range: &str, rest: &str) -> Option<u64> {
    let mut found = 0;
    for line in range.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (suffix, count) = line.split_once(':')?;
        let count: u64 = count.trim().parse().ok()?;
        if suffix.len() != rest.len() {
            return None;
        }
        if suffix.eq_ignore_ascii_case(rest) {
            found = count;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;

    use super::*;
    use crate::outbound::Reply;

    /// A server with one answer, which keeps what it was asked.
    struct Server(Result<Reply, Unanswered>, Mutex<Vec<Question>>);

    impl Server {
        fn says(status: u16, body: &str) -> Self {
            let body = Bytes::copy_from_slice(body.as_bytes());
            Self(Ok(Reply { status, body }), Mutex::default())
        }
    }

    #[async_trait]
    impl Outbound for Server {
        async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
            self.1.lock().push(question);
            self.0.clone()
        }
    }

    /// The rest of the digest of "password", whose prefix is 5BAA6, beside another and
    /// padding.
    const RANGE: &str = "1D2DA4053E34E76F6576ED1DA63134B5E2A:2\r\n\
                         1E4C9B93F3F0682250B6CF8331B7EE68FD8:52256179\r\n\
                         FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:0\r\n";

    #[tokio::test]
    async fn server_learns_five_digits_and_no_more() {
        let server = Server::says(200, RANGE);
        let breaches = Breaches::default();
        assert_eq!(breaches.lets_pass(&server, "password").await, Ok(false));
        assert_eq!(breaches.lets_pass(&server, "correct horse battery staple").await, Ok(true));
        let asked = server.1.lock();
        assert_eq!(asked[0].url, "https://api.pwnedpasswords.com/range/5BAA6");
        assert!(asked.iter().all(|q| q.url.len() == asked[0].url.len() && q.body.is_empty()));
        let padded = |q: &Question| {
            q.headers.iter().any(|(name, value)| name == "add-padding" && value.expose() == "true")
        };
        assert!(asked.iter().all(padded));
        assert_eq!(asked[0].within, Some(Duration::from_secs(2)));
    }

    #[tokio::test]
    async fn as_many_breaches_pass_as_are_allowed() {
        let server = Server::says(200, RANGE);
        for (found_max, passes) in [(52_256_178, false), (52_256_179, true)] {
            let breaches = Breaches { found_max, ..Breaches::default() };
            assert_eq!(breaches.lets_pass(&server, "password").await, Ok(passes));
        }
    }

    #[tokio::test]
    async fn silence_and_nonsense_are_ignored_only_where_that_is_wanted() {
        let broken = Server(Err(Unanswered::TooLate), Mutex::default());
        for (server, why) in [
            (broken, NotToldOf::Unanswered(Unanswered::TooLate)),
            (Server::says(503, ""), NotToldOf::Status(503)),
            (Server::says(200, "<html>"), NotToldOf::NoRange),
            (Server::says(200, "5BAA6:1"), NotToldOf::NoRange),
            (Server::says(200, &RANGE.replace(":2", ":many")), NotToldOf::NoRange),
        ] {
            let lenient = Breaches::default();
            assert_eq!(lenient.lets_pass(&server, "password").await, Ok(true), "{why}");
            let strict = Breaches { errors_ignored: false, ..lenient };
            assert_eq!(strict.lets_pass(&server, "password").await, Err(why));
        }
    }

    #[test]
    fn padding_counts_nothing() {
        assert_eq!(count_in(RANGE, &"F".repeat(35)), Some(0));
        assert_eq!(count_in("", &"F".repeat(35)), Some(0));
    }
}
