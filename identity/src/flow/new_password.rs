//! Judging a password that somebody wants to log in by from now on: by its length and
//! what it resembles, by the list that is included, and by whoever is asked about breaches.
//! What costs nothing is judged first, so that nobody is asked about what is refused
//! anyway.

use crate::{
    Service,
    password::{PolicyViolation, Standing},
};

impl Service {
    /// Judges a new password.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub(super) async fn judge_password(
        &self,
        password: &str,
        identifiers: &[String],
        standing: Standing,
    ) -> Result<(), PolicyViolation> {
        self.settings.password_policy.check(password, identifiers, standing)?;
        let Some(breaches) = &self.settings.breaches else { return Ok(()) };
        match breaches.lets_pass(self.outbound.as_ref(), password).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(PolicyViolation::Common),
            Err(_) => Err(PolicyViolation::NotJudged),
        }
    }
}
