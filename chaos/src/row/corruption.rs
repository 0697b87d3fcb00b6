//! Files of one node that are not what was written: flipped bits, cut tails, chunks
//! that were written to another place, older copies. A node may refuse to start, may
//! stop when it meets the damage, or may serve because nothing that counts was hit;
//! it must not answer wrongly, and must not hang.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{Lines, Load, SIZE, broken, life};
use crate::{
    dice::Dice,
    endpoint::{Endpoint, Side},
    lab::Lab,
    scoreboard::{Bar, Bench, Line},
    wan::namespace::run,
    wan::profile::Profile,
};

/// How long a damaged node is given to be ready or to end.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long one that is ready is watched.
const WATCHED: Duration = Duration::from_secs(3);
/// No more damage is done after this.
const LENGTH_MAX: Duration = Duration::from_secs(420);

#[derive(Debug, Clone, Copy)]
enum Damage {
    FlippedBits,
    CutTail,
    MisplacedChunk,
    ZeroedChunk,
    StaleLog,
}

const DAMAGES: [Damage; 5] = [
    Damage::FlippedBits,
    Damage::CutTail,
    Damage::MisplacedChunk,
    Damage::ZeroedChunk,
    Damage::StaleLog,
];

/// How a node with damage went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It ended and said why.
    Refused,
    /// It ended without a word.
    Mute,
    /// It became ready.
    Serves,
    /// Neither.
    Hangs,
}

/// R14.
pub async fn corruption(bench: &Bench) -> Lines {
    let mut lab = Lab::start(bench.lab(Profile::Lan)).await?;
    let load = Load::begin(&lab, SIZE).await?;
    let mut dice = Dice::new(bench.seed);
    tokio::time::sleep(WATCHED).await;
    let began = Instant::now();
    let (mut outcomes, mut wrong) = (Vec::new(), 0);
    for (trial, damage) in (0..bench.part(60)).zip(DAMAGES.into_iter().cycle()) {
        if began.elapsed() > LENGTH_MAX {
            break;
        }
        let victim = dice.below(lab.cluster.nodes.len());
        let (outcome, lies, told) = damaged(&mut lab, victim, damage, &mut dice).await?;
        let number = trial + 1;
        (bench.say)(&format!(
            "{number:>3}: {damage:?} at node {}: {outcome:?}, {lies} wrong; {told}",
            victim + 1
        ));
        outcomes.push(outcome);
        wrong += lies;
    }
    let findings = load.end(&mut lab, bench).await?;
    let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    Ok(vec![
        broken("R14", &findings),
        Line::count("R14.wrong", wrong, "answers", Bar::Is(0.0)),
        Line::count("R14.hung", count(Outcome::Hangs), "nodes", Bar::Is(0.0)),
        Line::count("R14.mute", count(Outcome::Mute), "nodes", Bar::Is(0.0)),
        Line::count("R14.refused", count(Outcome::Refused), "nodes", Bar::AtLeast(1.0)),
        Line::count("R14.trials", outcomes.len(), "trials", Bar::AtLeast(bench.part(60) as f64)),
    ])
}

async fn damaged(
    lab: &mut Lab,
    victim: usize,
    damage: Damage,
    dice: &mut Dice,
) -> anyhow::Result<(Outcome, usize, String)> {
    lab.settle().await?;
    let data = lab.cluster.nodes[victim].data.clone();
    let folder = data.parent().context("no folder")?;
    let (sound, older) = (folder.join("sound"), folder.join("older"));
    // An older copy of the log, as a disk has it that lost writes it had taken.
    copy(&data.join("log"), &older)?;
    tokio::time::sleep(dice.pause_ms(500, 1500)).await;
    lab.cluster.kill(victim)?;
    copy(&data, &sound)?;
    let told = harm(&data, &older, damage, dice)?;
    let said_before = lab.cluster.log(victim).len();

    lab.cluster.launch(victim)?;
    let began = Instant::now();
    let mut lies = 0;
    let outcome = loop {
        if lab.cluster.process(victim)?.ended()?.is_some() {
            let log = lab.cluster.log(victim);
            let said = log.get(said_before..).unwrap_or_default();
            let why = said.lines().any(|line| line.contains("ERROR") || line.contains("error"));
            break if why { Outcome::Refused } else { Outcome::Mute };
        }
        if lab.cluster.is_ready(victim).await {
            lies += lies_of(lab, victim).await?;
            if began.elapsed() > WATCHED {
                break Outcome::Serves;
            }
        }
        if began.elapsed() > PATIENCE {
            break Outcome::Hangs;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    lab.cluster.kill(victim).ok();
    lab.cluster.forget(victim);
    let log = lab.cluster.log(victim);
    let has_run = log.get(said_before..).is_some_and(|said| said.contains("a replica runs"));
    fs::remove_dir_all(&older)?;
    if has_run {
        // It may have confirmed writes since: to put back what it was before them
        // would be one more damage. It is replaced, as an operator would.
        fs::remove_dir_all(&sound)?;
        life::replace(lab, victim).await?;
    } else {
        fs::remove_dir_all(&data)?;
        fs::rename(&sound, &data)?;
        lab.cluster.launch(victim)?;
    }
    Ok((outcome, lies, told))
}

/// Identities that the damaged node has itself although another node says that they are
/// gone. The damaged node is asked last, and strongly: what it has may lag, but then it
/// must not answer before it has caught up.
async fn lies_of(lab: &Lab, victim: usize) -> anyhow::Result<usize> {
    let path = "/admin/identities?page_size=100";
    let local = |node: &Endpoint| {
        let mut node = node.clone();
        node.consistency = Some("eventual".into());
        node
    };
    let mut differing: Option<std::collections::BTreeSet<String>> = None;
    // What differs twice, half a second apart, is no delay of replication; an
    // identity's id never changes, so ids alone are compared.
    for _ in 0..2 {
        let here = ids(&local(&lab.cluster.nodes[victim].endpoint), path).await;
        let other = (victim + 1) % lab.cluster.nodes.len();
        let there = ids(&lab.cluster.nodes[other].endpoint, path).await;
        let (Some(here), Some(there)) = (here, there) else { return Ok(0) };
        let odd: std::collections::BTreeSet<String> = here.difference(&there).cloned().collect();
        differing = Some(match differing {
            None => odd,
            Some(before) => before.intersection(&odd).cloned().collect(),
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let suspects = differing.unwrap_or_default();
    // A page ends where it is full: who is beyond the other's end was asked for.
    let mut lies = 0;
    for id in suspects {
        let other = (victim + 1) % lab.cluster.nodes.len();
        let path = format!("/admin/identities/{id}");
        let asked = lab.cluster.nodes[other].endpoint.get(Side::Admin, &path).await;
        let here = lab.cluster.nodes[victim].endpoint.get(Side::Admin, &path).await;
        lies += usize::from(asked.status() == 404 && here.status() == 200);
    }
    Ok(lies)
}

async fn ids(node: &Endpoint, path: &str) -> Option<std::collections::BTreeSet<String>> {
    let reply = node.get(Side::Admin, path).await;
    let items = reply.done()?.as_array()?;
    items.iter().map(|item| item["id"].as_str().map(str::to_owned)).collect()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    // A file that a running node removes meanwhile is no reason to fail.
    let (from, to) = (from.display().to_string(), to.display().to_string());
    for _ in 0..5 {
        if run("cp", &["--archive", "--no-target-directory", &from, &to]).is_ok() {
            return Ok(());
        }
        fs::remove_dir_all(&to).ok();
    }
    anyhow::bail!("{from} cannot be copied")
}

fn harm(data: &Path, older: &Path, damage: Damage, dice: &mut Dice) -> anyhow::Result<String> {
    if let Damage::StaleLog = damage {
        let log = data.join("log");
        fs::remove_dir_all(&log)?;
        copy(older, &log)?;
        return Ok("the log as it was a second before".to_owned());
    }
    let mut files = Vec::new();
    walk(data, &mut files)?;
    // Something of a size, and nothing that only people read.
    files.retain(|(path, length)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        *length > 64 && !name.starts_with("LOG") && !name.starts_with("OPTIONS")
    });
    ensure!(!files.is_empty(), "there are no files to damage");
    let (path, _) = dice.pick(&files).context("no file")?;
    let mut bytes = fs::read(path)?;
    // Logs are longer than what was written to them: the rest is zeros.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at + 1);
    let chunk = 512.min(used);
    match damage {
        Damage::FlippedBits => {
            for _ in 0..8 {
                bytes[dice.below(used)] ^= 1 << dice.below(8);
            }
        }
        Damage::CutTail => bytes.truncate(used / 2),
        Damage::ZeroedChunk => {
            let at = dice.below(used - chunk + 1);
            bytes[at..at + chunk].fill(0);
        }
        Damage::MisplacedChunk | Damage::StaleLog => {
            let (from, to) = (dice.below(used - chunk + 1), dice.below(used - chunk + 1));
            bytes.copy_within(from..from + chunk, to);
        }
    }
    fs::write(path, &bytes)?;
    Ok(path.strip_prefix(data)?.display().to_string())
}

fn walk(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        if data.is_dir() {
            walk(&entry.path(), files)?;
        } else if data.is_file() {
            files.push((entry.path(), data.len()));
        }
    }
    files.sort();
    Ok(())
}
