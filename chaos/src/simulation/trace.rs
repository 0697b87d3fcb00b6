//! What happened, line by line. The digest of all lines is the run's
//! fingerprint: the same seed must give the same one.

use std::{fmt, io::Write};

/// Takes down what happens.
pub struct Trace {
    digest: blake3::Hasher,
    lines: u64,
    copy: Option<Box<dyn Write>>,
}

impl Trace {
    /// Writes each line to `copy`, too.
    pub fn new(copy: Option<Box<dyn Write>>) -> Self {
        Self { digest: blake3::Hasher::new(), lines: 0, copy }
    }

    /// Takes a line down.
    pub fn say(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}\n", now_ms as f64 / 1e3);
        self.digest.update(line.as_bytes());
        self.lines += 1;
        if let Some(copy) = &mut self.copy {
            // A reader that went away is no part of the run.
            copy.write_all(line.as_bytes()).ok();
        }
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The digest of all lines, in hexadecimal.
    pub fn digest(&self) -> String {
        self.digest.finalize().to_hex()[..32].to_owned()
    }
}
