//! The bare bound of logins: how many argon2id hashes this machine makes with
//! nothing else to do. A login cannot be cheaper than the hash in it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::Serialize;

/// Memory of a hash in KiB, passes, lanes: the defaults of the `[argon2]` settings
/// (OWASP's recommendation).
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
const OUTPUT_BYTES: usize = 32;

fn argon2() -> anyhow::Result<Argon2<'static>> {
    let (memory_kib, passes, lanes) = COST;
    let params = Params::new(memory_kib, passes, lanes, Some(OUTPUT_BYTES))
        .ok()
        .context("the parameters of argon2 are out of bounds")?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_into(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    memory: &mut [Block],
) -> anyhow::Result<[u8; OUTPUT_BYTES]> {
    let mut output = [0; OUTPUT_BYTES];
    argon2
        .hash_password_into_with_memory(password, salt, &mut output, memory)
        .map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
    Ok(output)
}

fn memory(argon2: &Argon2<'_>) -> Vec<Block> {
    vec![Block::default(); argon2.params().block_count()]
}

/// The written form of a password's hash at the cost that ships, so that a login
/// finds nothing to renew.
///
/// # Errors
/// If argon2 refuses.
pub fn hash(password: &str) -> anyhow::Result<String> {
    let (memory_kib, passes, lanes) = COST;
    let (argon2, salt) = (argon2()?, b"0123456789abcdef");
    let output = hash_into(&argon2, password.as_bytes(), salt, &mut memory(&argon2))?;
    Ok(format!(
        "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(output)
    ))
}

/// The bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bound {
    /// Threads, one a core.
    pub threads: usize,
    /// Hashes a second of all together.
    pub hashes_per_s: f64,
}

/// Hashes on every core for `length`, each thread in memory of its own that it keeps.
///
/// # Errors
/// If argon2 refuses.
pub fn bound(length: Duration) -> anyhow::Result<Bound> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let argon2 = argon2()?;
    let started = Instant::now();
    let counts: Vec<anyhow::Result<u64>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut memory = memory(&argon2);
                    let mut count = 0_u64;
                    while started.elapsed() < length {
                        let salt = count.to_be_bytes();
                        std::hint::black_box(hash_into(&argon2, b"bound", &salt, &mut memory)?);
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        let panicked = || anyhow::anyhow!("a hashing thread panicked");
        workers.into_iter().map(|worker| worker.join().map_err(|_| panicked())?).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    let total = counts.into_iter().sum::<anyhow::Result<u64>>()?;
    Ok(Bound { threads, hashes_per_s: total as f64 / seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_the_server_reads_it() {
        let text = hash("correct horse battery staple").unwrap();
        let parts: Vec<&str> = text.split('$').collect();
        assert_eq!(parts[..5], ["", "argon2id", "v=19", "m=19456,t=2,p=1", parts[4]]);
        assert_eq!(STANDARD_NO_PAD.decode(parts[4]).unwrap(), b"0123456789abcdef");
        assert_eq!(STANDARD_NO_PAD.decode(parts[5]).unwrap().len(), OUTPUT_BYTES);
        assert_eq!(text, hash("correct horse battery staple").unwrap());
        assert_ne!(text, hash("another").unwrap());
    }

    #[test]
    fn the_bound_is_some_hashes_a_second() {
        let bound = bound(Duration::from_millis(200)).unwrap();
        assert!(bound.hashes_per_s > 1.0 && bound.threads > 0, "{bound:?}");
    }
}
