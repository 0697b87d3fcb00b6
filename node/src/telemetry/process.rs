//! The process itself: memory, descriptors, processor time.

use super::registry::{MetricsSource, Samples};
use crate::listener::health::VERSION;

/// Numbers from `/proc/self`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessMetrics;

impl MetricsSource for ProcessMetrics {
    fn gather(&self, samples: &mut Samples) {
        let version = vec![("version", VERSION.to_owned())];
        samples.gauge("build_info", "The binary that runs, always 1", version, 1.0);
        if let Some(bytes) = resident_bytes() {
            samples.gauge("process_resident_bytes", "Resident memory", vec![], bytes as f64);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            samples.gauge(
                "process_open_fds",
                "Open file descriptors",
                vec![],
                entries.count() as f64,
            );
        }
        if let Some((threads, cpu_seconds)) = threads_and_cpu() {
            samples.gauge("process_threads", "Threads", vec![], threads as f64);
            samples.seconds("process_cpu_seconds", "Processor time used", vec![], cpu_seconds);
        }
    }
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn threads_and_cpu() -> Option<(u64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold spaces; fields are counted after its closing bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // Linux reports in ticks of a hundredth of a second.
    Some((fields.get(17)?.parse().ok()?, ticks as f64 / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_sees_itself() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(threads_and_cpu().unwrap().0 >= 1);
    }
}
