//! How attempts at passwords are slowed down.
//!
//! Each attempt is charged, and the charge committed, before the password is
//! looked at; so no crash, failover or parallel guessing gives attempts away.
//!
//! Counters of an account are kept apart by source: every source from which the
//! account logged in before (its address, for IPv6 its /64) has a counter of its
//! own; all other sources share one. The first attempts are free; from then on each
//! doubles the time until the next, up to a bound, and a success clears the
//! counter. An attempt before its time is refused without a charge, so waiting is
//! all it takes. Somebody who guesses from anywhere can therefore slow down other
//! unknown sources, never the places from which the owner logs in; nobody is locked
//! out for good. Identifiers nobody has are counted alike, at a decoy.
//!
//! Failures are also counted by source over all accounts, with a fixed window, so
//! that one source cannot try a password on everybody.

use std::{net::IpAddr, time::Duration};

use cardea_storage::{Consistency, StoreError, Timestamp, row::counter};

use crate::{
    Service,
    model::{Client, Scope},
    table::{AttemptsRecord, attempts::source_failures_key},
};

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Attempts at an account that are not slowed down.
    pub free_attempts: u32,
    /// The wait after the first attempt that is; it doubles with each.
    pub wait_first: Duration,
    /// The longest wait.
    pub wait_max: Duration,
    /// How long an account's counter lasts after its last attempt.
    pub memory: Duration,
    /// How long a source counts as known after a login from it.
    pub known_source: Duration,
    /// Failures of a source, over all accounts, within its window.
    pub source_failures_max: u32,
    /// The window of a source.
    pub source_window: Duration,
}

impl Default for Throttle {
    /// 5 free attempts, then 1 s doubling to 15 min; forgotten after a day. 300
    /// failures of a source in 10 minutes. NIST SP 800-63B allows 100 attempts in a
    /// row; these rules reach that only over a day.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            free_attempts: 5,
            wait_first: Duration::from_secs(1),
            wait_max: 15 * minute,
            memory: 24 * 60 * minute,
            known_source: 30 * 24 * 60 * minute,
            source_failures_max: 300,
            source_window: 10 * minute,
        }
    }
}

/// An attempt came before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooEarly {
    /// When it makes sense to come back.
    pub retry_after: Duration,
}

impl Throttle {
    /// The counter with one attempt more.
    ///
    /// # Errors
    /// If it is too early for one.
    pub(crate) fn charge(
        &self,
        before: Option<&AttemptsRecord>,
        now: Timestamp,
    ) -> Result<AttemptsRecord, TooEarly> {
        let before = before.copied().unwrap_or_default();
        let retry_after = Timestamp(before.not_before).since(now);
        if !retry_after.is_zero() {
            return Err(TooEarly { retry_after });
        }
        let charged = before.charged.saturating_add(1);
        let wait = self.wait(charged);
        let not_before = if wait.is_zero() { 0 } else { now.after(wait).as_millis() };
        Ok(AttemptsRecord { charged, not_before, known_until: before.known_until })
    }

    /// How long to wait after that many attempts.
    fn wait(&self, charged: u32) -> Duration {
        match charged.checked_sub(self.free_attempts) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.wait_first.saturating_mul(factor).min(self.wait_max)
            }
        }
    }

    /// When the row of a counter ceases to exist.
    pub(crate) fn kept_until(&self, record: &AttemptsRecord, now: Timestamp) -> Timestamp {
        now.after(self.memory.max(self.wait_max)).max(Timestamp(record.known_until))
    }

    /// The counter of a source after a login from it.
    pub(crate) fn known(&self, now: Timestamp) -> AttemptsRecord {
        let known_until = now.after(self.known_source).as_millis();
        AttemptsRecord { charged: 0, not_before: 0, known_until }
    }
}

/// What is counted as one source: an IPv4 address, or the /64 of an IPv6 one, which
/// is what a subscriber has.
fn source_bytes(ip: Option<IpAddr>) -> Vec<u8> {
    match ip.map(|ip| ip.to_canonical()) {
        None => b"unknown".to_vec(),
        Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Some(IpAddr::V6(ip)) => ip.octets()[..8].to_vec(),
    }
}

impl Service {
    /// The keyed digest of where somebody comes from.
    pub(crate) fn source(&self, scope: Scope, client: &Client) -> [u8; 32] {
        self.source_digest(scope.tenant, &source_bytes(client.ip))
    }

    /// Whether a source may try.
    pub(crate) async fn source_may_try(
        &self,
        scope: Scope,
        source: &[u8; 32],
    ) -> Result<Result<(), TooEarly>, StoreError> {
        let key = source_failures_key(scope.tenant, source);
        let view = self.store.view(Consistency::Strong);
        let row = view.rows(&[key], false).await?.into_iter().flatten().next();
        let failures = counter(row.as_ref().map(|row| &row.value));
        if failures < i64::from(self.settings.throttle.source_failures_max) {
            return Ok(Ok(()));
        }
        let until = row.and_then(|row| row.expires_at).unwrap_or_default();
        let retry_after = until.since(self.now()).max(Duration::from_secs(1));
        Ok(Err(TooEarly { retry_after }))
    }

    /// Counts a failure of a source.
    pub(crate) async fn source_failed(
        &self,
        scope: Scope,
        source: &[u8; 32],
    ) -> Result<(), StoreError> {
        let key = &source_failures_key(scope.tenant, source);
        let window = self.settings.throttle.source_window;
        self.store
            .transact(|t| async move {
                t.add(key, 1, Some(t.now().after(window)));
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let throttle = Throttle::default();
        let waits: Vec<u64> = (0..=18).map(|n| throttle.wait(n).as_secs()).collect();
        assert_eq!(
            waits,
            [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
        );
        assert_eq!(throttle.wait(u32::MAX), throttle.wait_max);
    }

    #[test]
    fn attempt_before_its_time_is_refused_and_not_charged() {
        let throttle = Throttle::default();
        let now = Timestamp(1_000_000);
        let mut record = None;
        for _ in 0..5 {
            record = Some(throttle.charge(record.as_ref(), now).unwrap());
        }
        let refused = throttle.charge(record.as_ref(), now).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(1));
        let later = now.after(Duration::from_millis(999));
        assert_eq!(throttle.charge(record.as_ref(), later).unwrap_err().retry_after.as_millis(), 1);
        let charged = throttle.charge(record.as_ref(), now.after(Duration::from_secs(1))).unwrap();
        assert_eq!(charged.charged, 6);
    }

    #[test]
    fn a_subscribers_addresses_are_one_source() {
        let source = |ip: &str| source_bytes(Some(ip.parse().unwrap()));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(source_bytes(None), source("192.0.2.2"));
    }
}
