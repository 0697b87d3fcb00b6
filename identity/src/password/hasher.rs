//! Hashing and verifying passwords on the pool.

use std::{fmt, io, sync::Arc};

use cardea_storage::{Entropy, Secret};

use super::{
    hash::{Argon2Cost, PasswordHash},
    pool::{Overloaded, Permit, Pool, PoolOptions, PoolUsage},
};

/// What verifying a password gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It is the password.
    Matches {
        /// Whether the hash should be replaced by one of the current cost.
        outdated: bool,
    },
    /// It is not, or there was no hash to compare with.
    Differs,
}

/// Hashes and verifies passwords.
pub struct Passwords {
    pool: Pool,
    cost: Argon2Cost,
    /// Verified in place of a hash that is not there.
    decoy: Arc<PasswordHash>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Passwords {
    /// Starts the pool, and makes a decoy that no password is known for.
    ///
    /// # Errors
    /// If the cost is out of bounds or no thread can be started.
    pub fn start(
        options: PoolOptions,
        cost: Argon2Cost,
        entropy: &dyn Entropy,
    ) -> io::Result<Self> {
        let (unknown, salt) = (entropy.bytes::<32>(), entropy.bytes::<16>());
        let decoy =
            PasswordHash::make(&unknown, &salt, cost, &mut Vec::new()).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the argon2 cost is out of bounds: at most 1 GiB, 10 passes and 16 lanes",
                )
            })?;
        let pool = Pool::start(options, cost.memory_bytes())?;
        Ok(Self { pool, cost, decoy: Arc::new(decoy) })
    }

    /// The cost of new hashes.
    pub fn cost(&self) -> Argon2Cost {
        self.cost
    }

    /// What the pool has done and is doing.
    pub fn usage(&self) -> PoolUsage {
        self.pool.usage()
    }

    /// Admits somebody who will need a hash or two, before anything else is done
    /// for them.
    ///
    /// # Errors
    /// [`Overloaded`] if too many were admitted already.
    pub fn admit(&self) -> Result<Permit, Overloaded> {
        self.pool.admit()
    }

    /// Hashes a password with a fresh salt.
    ///
    /// # Errors
    /// [`Overloaded`] if the pool is being closed.
    pub async fn hash(
        &self,
        permit: &Permit,
        password: Secret<String>,
        entropy: &dyn Entropy,
    ) -> Result<PasswordHash, Overloaded> {
        let (salt, cost) = (entropy.bytes::<16>(), self.cost);
        let made = self
            .pool
            .run(permit, cost.memory_bytes(), move |scratch| {
                PasswordHash::make(password.expose().as_bytes(), &salt, cost, scratch)
            })
            .await?;
        #[expect(clippy::expect_used, reason = "the decoy was made at the same cost")]
        Ok(made.expect("the cost is within bounds"))
    }

    /// Verifies a password. Without a hash the decoy is verified: the same work,
    /// and never a match. A hash of a cheap form that does not match is followed by
    /// the decoy, so that how long a refusal takes does not tell of whom there is a
    /// hash.
    ///
    /// # Errors
    /// [`Overloaded`] if the pool is being closed.
    pub async fn verify(
        &self,
        permit: &Permit,
        password: Secret<String>,
        hash: Option<Arc<PasswordHash>>,
    ) -> Result<Verified, Overloaded> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let outdated = !hash.is_current(self.cost);
        let followed = (!hash.is_argon2id()).then(|| self.decoy.clone());
        let memory = hash.memory_bytes().max(followed.as_ref().map_or(0, |d| d.memory_bytes()));
        let matches = self
            .pool
            .run(permit, memory, move |scratch| {
                let password = password.expose().as_bytes();
                let matches = hash.verify(password, scratch);
                if let Some(decoy) = followed.filter(|_| !matches) {
                    std::hint::black_box(decoy.verify(password, scratch));
                }
                matches
            })
            .await?;
        Ok(if matches && known { Verified::Matches { outdated } } else { Verified::Differs })
    }
}

#[cfg(test)]
mod tests {
    use cardea_storage::SeededEntropy;

    use super::*;

    const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn password_is_verified_and_an_old_cost_is_told() {
        let entropy = SeededEntropy::new(1);
        let old = Passwords::start(PoolOptions::default(), CHEAP, &entropy).unwrap();
        let hash =
            Arc::new(old.hash(&old.admit().unwrap(), secret("secret"), &entropy).await.unwrap());
        let verdict = old.verify(&old.admit().unwrap(), secret("secret"), Some(hash.clone())).await;
        assert_eq!(verdict, Ok(Verified::Matches { outdated: false }));
        let verdict = old.verify(&old.admit().unwrap(), secret("Secret"), Some(hash.clone())).await;
        assert_eq!(verdict, Ok(Verified::Differs));

        let dearer = Argon2Cost { passes: 2, ..CHEAP };
        let new = Passwords::start(PoolOptions::default(), dearer, &entropy).unwrap();
        let verdict = new.verify(&new.admit().unwrap(), secret("secret"), Some(hash)).await;
        assert_eq!(verdict, Ok(Verified::Matches { outdated: true }));
    }

    #[tokio::test]
    async fn missing_hash_costs_a_hash_and_never_matches() {
        let entropy = SeededEntropy::new(1);
        let passwords = Passwords::start(PoolOptions::default(), CHEAP, &entropy).unwrap();
        assert_eq!(
            passwords.verify(&passwords.admit().unwrap(), secret("secret"), None).await,
            Ok(Verified::Differs)
        );
        assert_eq!(passwords.usage().done_total, 1);
    }

    #[tokio::test]
    async fn same_password_is_hashed_with_another_salt() {
        let entropy = SeededEntropy::new(1);
        let passwords = Passwords::start(PoolOptions::default(), CHEAP, &entropy).unwrap();
        let a =
            passwords.hash(&passwords.admit().unwrap(), secret("secret"), &entropy).await.unwrap();
        let b =
            passwords.hash(&passwords.admit().unwrap(), secret("secret"), &entropy).await.unwrap();
        assert_ne!(a.as_str(), b.as_str());
    }

    #[test]
    fn cost_out_of_bounds_is_refused_at_the_start() {
        let entropy = SeededEntropy::new(1);
        let cost = Argon2Cost { memory_kib: 2 << 20, ..CHEAP };
        assert!(Passwords::start(PoolOptions::default(), cost, &entropy).is_err());
    }
}
