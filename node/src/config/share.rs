//! Memory, written as a size or as a share of what the machine has.

use super::value::{FromRaw, Raw, Size};

/// What is assumed where the machine does not tell.
const UNKNOWN: Size = Size(1 << 30);
/// The largest share, in percent: the rest is for what is not shared out.
const PERCENT_MAX: u64 = 75;

/// Memory, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many bytes.
    Exactly(Size),
    /// So much of the machine's, in percent.
    Percent(u64),
}

impl Share {
    /// In bytes, on a machine with that much.
    pub fn of(self, machine: Size) -> Size {
        match self {
            Self::Exactly(size) => size,
            Self::Percent(percent) => Size(machine.bytes() / 100 * percent),
        }
    }
}

impl FromRaw for Share {
    const FORM: &'static str = "a size such as 512MiB, or a share of the memory such as 20%";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let (Raw::Text(text) | Raw::Loose(text)) = raw else {
            return Err(format!("expected {}", Self::FORM));
        };
        let Some(percent) = text.strip_suffix('%') else {
            return Size::from_raw(raw)
                .map(Self::Exactly)
                .map_err(|_| format!("expected {}, found \"{text}\"", Self::FORM));
        };
        match percent.parse() {
            Ok(percent @ 1..=PERCENT_MAX) => Ok(Self::Percent(percent)),
            _ => Err(format!("expected a share from 1% to {PERCENT_MAX}%, found \"{text}\"")),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Exactly(size) => size.to_string(),
            Self::Percent(percent) => format!("{percent}%"),
        }
    }
}

/// The memory of this machine, or of the control group that this process is in, if that
/// is less.
pub fn memory_here() -> Size {
    memory(|path| std::fs::read_to_string(path).ok())
}

/// The same, by files of proc(5) and cgroups(7).
fn memory(read: impl Fn(&str) -> Option<String>) -> Size {
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        // `0::/path` in the second version, `5:memory:/path` in the first.
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        // A limit holds for all below; in a container the path may be one of the host's.
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.filter_map(|end| read(&format!("{root}{}/{file}", path[..end].trim_end_matches('/'))))
            .filter_map(|text| text.trim().parse::<u64>().ok())
            .collect()
    });
    let machine = machine.map(|kib| kib.saturating_mul(1024));
    limits.chain(machine).min().map_or(UNKNOWN, Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Share, String> {
        Share::from_raw(&Raw::Text(text.to_owned()))
    }

    #[test]
    fn memory_is_a_size_or_a_share() {
        assert_eq!(parsed("64MiB"), Ok(Share::Exactly(Size(64 << 20))));
        assert_eq!(parsed("20%"), Ok(Share::Percent(20)));
        for wrong in ["0%", "76%", "-5%", "%", "20 %", "a fifth", "64"] {
            let error = parsed(wrong).unwrap_err();
            assert!(error.contains(&format!("\"{wrong}\"")), "{error}");
        }
        for share in ["64MiB", "20%"] {
            assert_eq!(parsed(share).unwrap().show(), share);
        }
        assert_eq!(Share::Percent(20).of(Size(1000)), Size(200));
        assert_eq!(Share::Exactly(Size(7)).of(Size(1000)), Size(7));
    }

    #[test]
    fn the_narrowest_limit_is_what_there_is() {
        let among = |files: &[(&str, &str)]| {
            let found = |path: &str| files.iter().find(|(name, _)| *name == path);
            memory(|path| found(path).map(|(_, text)| (*text).to_owned()))
        };
        let machine = ("/proc/meminfo", "MemTotal:       4096 kB\nMemFree:     17 kB\n");
        assert_eq!(among(&[]), UNKNOWN);
        assert_eq!(among(&[machine]), Size(4 << 20));
        let second = ("/proc/self/cgroup", "0::/a/b\n");
        let of = |path, limit| among(&[machine, second, (path, limit)]);
        assert_eq!(of("/sys/fs/cgroup/a/b/memory.max", "1048576\n"), Size(1 << 20));
        assert_eq!(of("/sys/fs/cgroup/a/memory.max", "1048576\n"), Size(1 << 20));
        assert_eq!(of("/sys/fs/cgroup/memory.max", "1048576\n"), Size(1 << 20));
        assert_eq!(of("/sys/fs/cgroup/a/b/memory.max", "max\n"), Size(4 << 20));
        assert_eq!(of("/sys/fs/cgroup/a/b/memory.max", "99999999\n"), Size(4 << 20));
        let first = ("/proc/self/cgroup", "7:cpu,cpuacct:/x\n5:memory:/x\n");
        let limit = ("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "2097152\n");
        assert_eq!(among(&[machine, first, limit]), Size(2 << 20));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory_here() > Size(16 << 20));
    }
}
