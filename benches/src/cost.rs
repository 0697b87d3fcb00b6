//! What processes cost, as the kernel counts it: processor seconds and resident
//! memory. The generator shares the machine with what it measures, so its own cost
//! is told beside theirs.

use std::{io, time::Instant};

use serde::Serialize;

/// A process by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its name in reports.
    pub name: String,
    /// Its id.
    pub pid: u32,
}

impl Process {
    /// This process.
    pub fn generator() -> Self {
        Self { name: "generator".to_owned(), pid: std::process::id() }
    }

    /// Processor time used so far, in seconds.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let ticks = cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        resident(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// User and system time of a `/proc/<pid>/stat` line. The name in it may hold
/// anything, blanks and brackets too, so fields are counted from its end.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What a process used of a processor during a measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The process.
    pub name: String,
    /// Processor seconds.
    pub cpu_seconds: f64,
    /// The share of one core, 1 being all of it.
    pub cores: f64,
}

/// A measurement of costs under way.
#[derive(Debug)]
pub struct Meter {
    started: Instant,
    before: Vec<(Process, f64)>,
}

impl Meter {
    /// Begins: this process and the given ones. One that is gone is left out.
    pub fn start(servers: &[Process]) -> Self {
        let all = std::iter::once(Process::generator()).chain(servers.iter().cloned());
        let before = all.filter_map(|process| {
            let used = process.cpu_seconds().ok()?;
            Some((process, used))
        });
        Self { started: Instant::now(), before: before.collect() }
    }

    /// Ends.
    pub fn stop(self) -> Vec<Cost> {
        let seconds = self.started.elapsed().as_secs_f64();
        let costs = self.before.into_iter().filter_map(|(process, before)| {
            let cpu_seconds = process.cpu_seconds().ok()? - before;
            Some(Cost { name: process.name, cpu_seconds, cores: cpu_seconds / seconds })
        });
        costs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_the_name_holds() {
        let stat = "12 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20 0 9 0";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("12 (a"), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn work_is_charged_to_who_did_it() {
        let meter = Meter::start(&[]);
        let started = Instant::now();
        let mut sum = 0_u64;
        while started.elapsed().as_millis() < 200 {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        std::hint::black_box(sum);
        let costs = meter.stop();
        assert_eq!(costs[0].name, "generator");
        assert!(costs[0].cpu_seconds > 0.02, "{costs:?}");
        assert!(Process::generator().resident_bytes().unwrap() > 1 << 20);
    }
}
