//! A disk of a node's own: an ext4 file system in a file, on a loop device, that can
//! be filled, slowed down to a few writes a second, made to fail, and robbed of all
//! that was not synced.
//!
//! The power cut is ext4's own shutdown (the `EXT4_IOC_SHUTDOWN` that its tests
//! use), without flushing the journal: whatever the file system had not been told to
//! sync is gone after the next mount, and every write meanwhile fails. A process
//! that is shut out so and goes on is also how a dying disk is played.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::fs::{FallocateFlags, fallocate};

use crate::wan::namespace::run;

/// Where the kernel is told how many writes a second a device makes.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";

/// The ioctl has no safe wrapper in any crate, and this program has no `unsafe`;
/// Perl is on every Debian.
const SHUTDOWN: &str = r#"
    my ($folder, $how) = @ARGV;
    open(my $root, "<", $folder) or die "open $folder: $!";
    my $argument = pack("L", $how);
    ioctl($root, 0x8004587d, $argument) or die "EXT4_IOC_SHUTDOWN: $!";
"#;
/// Synced writes of a probe, of which none is begun after so long.
const PROBES: u32 = 8;
const PROBING_MAX: Duration = Duration::from_secs(2);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const WITHOUT_THE_JOURNAL: &str = "2";

/// The disk. Dropping it unmounts it.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    folder: PathBuf,
    /// Major and minor number of its loop device.
    device: String,
}

impl Disk {
    /// Makes one of so many MiB and mounts it on a folder, which must exist.
    pub fn make(image: &Path, folder: &Path, mib: u64) -> anyhow::Result<Self> {
        File::create_new(image)?.set_len(mib << 20)?;
        let path = image.display().to_string();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", &path])?;
        let mut disk =
            Self { image: image.to_owned(), folder: folder.to_owned(), device: String::new() };
        disk.mount()?;
        // Its owner takes the folder for its own.
        std::fs::remove_dir(folder.join("lost+found"))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The power fails: what was not synced is lost, and every write fails until
    /// [`Self::power_on`].
    pub fn power_cut(&self) -> anyhow::Result<()> {
        let folder = self.folder.display().to_string();
        run("perl", &["-e", SHUTDOWN, &folder, WITHOUT_THE_JOURNAL]).map(|_| ())
    }

    /// Mounts it again, as a machine does that starts. Nobody may use it.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Lets it make only so many writes a second; none: as many as it can.
    pub fn throttle(&self, writes_per_s: Option<u32>) -> anyhow::Result<()> {
        let rule = format!("{} {}", self.device, writes_per_s.unwrap_or(0));
        std::fs::write(THROTTLE, rule)
            .with_context(|| format!("{THROTTLE}: no control groups of version 1 here"))
    }

    /// Takes room until only this many bytes are free.
    pub fn fill(&self, leave_bytes: u64) -> anyhow::Result<()> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        let length = (disk.f_bavail * disk.f_frsize).saturating_sub(leave_bytes);
        let file = File::options().create(true).append(true).open(self.balloon())?;
        if length > 0 {
            fallocate(&file, FallocateFlags::empty(), file.metadata()?.len(), length)?;
        }
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.balloon())?)
    }

    /// How long a small synced write takes, of several: a device that was idle has
    /// some writes to its credit, whatever it is throttled to.
    pub fn sync_time(&self) -> anyhow::Result<Duration> {
        let path = self.folder.join("probe");
        let began = Instant::now();
        let mut writes = 0;
        while writes < PROBES && began.elapsed() < PROBING_MAX {
            std::fs::write(&path, [0; 512])?;
            File::open(&path)?.sync_data()?;
            std::fs::remove_file(&path)?;
            writes += 1;
        }
        Ok(began.elapsed() / writes)
    }

    fn balloon(&self) -> PathBuf {
        self.folder.join("balloon")
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        let (image, folder) = (self.image.display().to_string(), self.folder.display().to_string());
        run("mount", &["-o", "loop", &image, &folder])?;
        let device = rustix::fs::stat(&self.folder)?.st_dev;
        self.device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        // Device numbers are used again: an earlier run may have left a limit.
        if Path::new(THROTTLE).exists() {
            self.throttle(None)?;
        }
        Ok(())
    }

    fn unmount(&self) -> anyhow::Result<()> {
        run("umount", &[&self.folder.display().to_string()]).map(|_| ())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // With the namespace everything would go, but for the limit.
        self.throttle(None).ok();
        let folder = self.folder.display().to_string();
        run("umount", &["--lazy", &folder]).ok();
    }
}

/// Whether a file's content survives a power cut if it was synced, and only then.
/// A disk that keeps everything proves nothing about those who forget to sync.
pub fn expect_loss(folder: &Path) -> anyhow::Result<()> {
    let (image, mounted) = (folder.join("probe.img"), folder.join("probe"));
    std::fs::create_dir_all(&mounted)?;
    let mut disk = Disk::make(&image, &mounted, 64)?;
    let synced = mounted.join("synced");
    std::fs::write(&synced, [7; 5000])?;
    File::open(&synced)?.sync_all()?;
    File::open(&mounted)?.sync_all()?;
    std::fs::write(mounted.join("not-synced"), [7; 5000])?;
    disk.power_cut()?;
    ensure!(std::fs::write(mounted.join("later"), [7]).is_err(), "a write without power");
    disk.power_on()?;
    ensure!(std::fs::read(&synced)? == [7; 5000], "what was synced is lost");
    let kept = std::fs::read(mounted.join("not-synced")).unwrap_or_default();
    ensure!(kept != [7; 5000], "what was not synced survived the power cut");
    Ok(())
}
