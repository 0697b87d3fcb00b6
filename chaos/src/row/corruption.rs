//! Files of one node that are not what was written: flipped bits, cut tails, chunks
//! that were written to another place, older copies. A node may refuse to start, may
//! stop when it meets the damage, or may serve because nothing that counts was hit;
//! it must not answer wrongly, and must not hang.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

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
/// How often a file is drawn until the damage changes it.
const DRAWS: usize = 100;
/// How a node says in its log that it stops, and the field that says why.
const REFUSALS: [(&str, &str); 2] =
    [("fatal fault: this node must stop", "fault"), ("this node stops", "error")];
/// How its last line begins that says why it ended.
const LAST_WORDS: &str = "error: ";
/// What has nothing to do with its files.
const NO_REFUSAL: &str = "Address already in use";

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

/// What was seen of one damage.
#[derive(Debug)]
struct Trial {
    outcome: Outcome,
    answers: Answers,
    told: String,
}

/// Records that the damaged node and another both listed, and answers of the damaged one
/// that are wrong.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    compared: usize,
    wrong: usize,
}

/// How a node with damage went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It ended and said why.
    Refused,
    /// It ended without a word.
    Mute,
    /// It became ready, and what it lists was compared.
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
    let (mut outcomes, mut answers) = (Vec::new(), Answers::default());
    for (trial, damage) in (0..bench.part(60)).zip(DAMAGES.into_iter().cycle()) {
        if began.elapsed() > LENGTH_MAX {
            break;
        }
        let victim = dice.below(lab.cluster.nodes.len());
        let seen = damaged(&mut lab, victim, damage, &mut dice).await?;
        let Answers { compared, wrong } = seen.answers;
        (bench.say)(&format!(
            "{:>3}: {damage:?} at node {}: {:?}, {wrong} wrong of {compared}; {}",
            trial + 1,
            victim + 1,
            seen.outcome,
            seen.told
        ));
        outcomes.push(seen.outcome);
        answers.compared += compared;
        answers.wrong += wrong;
    }
    let findings = load.end(&mut lab, bench).await?;
    let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    Ok(vec![
        broken("R14", &findings),
        Line::count("R14.wrong", answers.wrong, "answers", Bar::Is(0.0)),
        Line::count("R14.compared", answers.compared, "records", Bar::AtLeast(1.0)),
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
) -> anyhow::Result<Trial> {
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
    let mut answers = Answers::default();
    let outcome = loop {
        if lab.cluster.process(victim)?.ended()?.is_some() {
            let log = lab.cluster.log(victim);
            let said = log.get(said_before..).unwrap_or_default();
            break if said.lines().any(is_refusal) { Outcome::Refused } else { Outcome::Mute };
        }
        if lab.cluster.is_ready(victim).await {
            compare(lab, victim, &mut answers).await;
            if began.elapsed() > WATCHED && answers.compared > 0 {
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
    Ok(Trial { outcome, answers, told })
}

/// Whether a line of a node's log says that it stops, and why. A panic says only where.
fn is_refusal(line: &str) -> bool {
    let why = match serde_json::from_str::<Value>(line) {
        Ok(told) if told["level"] == "ERROR" => {
            let refusal = REFUSALS.iter().find(|(message, _)| told["message"] == *message);
            refusal.and_then(|(_, why)| told[*why].as_str()).unwrap_or_default().to_owned()
        }
        Ok(_) => String::new(),
        Err(_) => line.strip_prefix(LAST_WORDS).unwrap_or_default().to_owned(),
    };
    !why.trim().is_empty() && !why.contains(NO_REFUSAL)
}

/// Compares what the damaged node lists, as it has it itself, with what another node says.
/// Where they differ it is asked strongly: what it has may lag, but then it must not answer
/// before it has caught up.
async fn compare(lab: &Lab, victim: usize, answers: &mut Answers) {
    let path = "/admin/identities?page_size=100";
    let suspect = &lab.cluster.nodes[victim].endpoint;
    let sound = &lab.cluster.nodes[(victim + 1) % lab.cluster.nodes.len()].endpoint;
    let mut local = suspect.clone();
    local.consistency = Some("eventual".into());
    let mut differing: Option<Vec<String>> = None;
    // What differs twice, half a second apart, is rarely a delay of replication.
    for _ in 0..2 {
        let here = records(&local, path).await;
        let there = records(sound, path).await;
        let (Some(here), Some(there)) = (here, there) else { return };
        answers.compared += here.keys().filter(|id| there.contains_key(*id)).count();
        let mut odd = differing_ids(&here, &there);
        odd.retain(|id| differing.as_ref().is_none_or(|before| before.contains(id)));
        differing = Some(odd);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // A page ends where it is full: who is beyond the other's end is asked for, too.
    for id in differing.unwrap_or_default() {
        let path = format!("/admin/identities/{id}");
        let before = record(sound, &path).await;
        let here = record(suspect, &path).await;
        let after = record(sound, &path).await;
        answers.wrong += usize::from(is_wrong(before.as_ref(), here.as_ref(), after.as_ref()));
    }
}

/// Whose records are not the same on both sides.
fn differing_ids(here: &BTreeMap<String, Value>, there: &BTreeMap<String, Value>) -> Vec<String> {
    let all = here.keys().chain(there.keys().filter(|id| !here.contains_key(*id)));
    all.filter(|id| here.get(*id) != there.get(*id)).cloned().collect()
}

/// Whether an answer contradicts what another node said before and after it. Answers are
/// `None` where there was none, and null of who is not there.
fn is_wrong(before: Option<&Value>, here: Option<&Value>, after: Option<&Value>) -> bool {
    // What was changed meanwhile shows it by its time.
    before.is_some() && before == after && here.is_some() && here != before
}

/// Identities by their ids.
async fn records(node: &Endpoint, path: &str) -> Option<BTreeMap<String, Value>> {
    let reply = node.get(Side::Admin, path).await;
    let items = reply.done()?.as_array()?;
    items.iter().map(|item| Some((item["id"].as_str()?.to_owned(), of_any_node(item)))).collect()
}

/// An identity; null if it is not there, `None` without an answer.
async fn record(node: &Endpoint, path: &str) -> Option<Value> {
    let reply = node.get(Side::Admin, path).await;
    if reply.status() == 404 {
        return Some(Value::Null);
    }
    reply.done().map(of_any_node)
}

/// An identity without what every node says of itself.
fn of_any_node(identity: &Value) -> Value {
    let mut identity = identity.clone();
    if let Some(fields) = identity.as_object_mut() {
        fields.remove("schema_url");
    }
    identity
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
    for _ in 0..DRAWS {
        let (path, _) = dice.pick(&files).context("no file")?;
        let sound = fs::read(path)?;
        let bytes = spoilt(&sound, damage, dice);
        if bytes != sound {
            fs::write(path, &bytes)?;
            return Ok(path.strip_prefix(data)?.display().to_string());
        }
    }
    anyhow::bail!("{damage:?} changes none of {} files", files.len())
}

/// What a file holds once it is damaged; what it held, if it can be so by chance.
fn spoilt(sound: &[u8], damage: Damage, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    // Logs are longer than what was written to them: the rest is zeros.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at + 1).min(bytes.len());
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
            // Never all of it: there must be another place for it to be.
            let chunk = chunk.min(used / 2);
            let (from, to) = (dice.below(used - chunk + 1), dice.below(used - chunk + 1));
            bytes.copy_within(from..from + chunk, to);
        }
    }
    bytes
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_node_says_when_it_stops_is_a_refusal() {
        let line = |level: &str, message: &str, fields: Value| {
            let mut line = json!({"level": level, "message": message, "target": "cardea"});
            line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            is_refusal(&line.to_string())
        };
        let fault = json!({"fault": "Fault(the log of g1 has a hole at 7)"});
        assert!(line("ERROR", "fatal fault: this node must stop", fault.clone()));
        assert!(line("ERROR", "this node stops", json!({"error": "open the engine in data/log"})));
        assert!(is_refusal("error: open the engine in data/log: Corruption: bad block"));
        // What goes on is no refusal, nor is what says nothing.
        assert!(!line("WARN", "a peer cannot be reached", json!({"error": "tcp connect error"})));
        assert!(!line("ERROR", "the directory's feed failed", json!({"error": "no leader"})));
        assert!(!line("WARN", "fatal fault: this node must stop", fault));
        assert!(!line("ERROR", "this node stops", json!({})));
        assert!(!line("ERROR", "panic: this node stops", json!({"at": "raft/src/host.rs:1"})));
        assert!(!is_refusal("terminate called after throwing an instance of 'error'"));
        assert!(!is_refusal("error: "));
        assert!(!is_refusal("error: 127.0.0.1:4433: Address already in use (os error 98)"));
    }

    #[test]
    fn a_small_file_is_damaged_as_well() {
        let mut dice = Dice::new(7);
        for length in [65_usize, 300, 512, 2_000] {
            let sound: Vec<u8> = (1..=length).map(|at| (at % 251 + 1) as u8).collect();
            for damage in DAMAGES {
                let changed = (0..DRAWS).any(|_| spoilt(&sound, damage, &mut dice) != sound);
                assert!(changed, "{damage:?} leaves {length} bytes as they are");
            }
        }
    }

    #[test]
    fn an_answer_that_contradicts_what_holds_before_and_after_is_wrong() {
        let (old, new, gone) = (json!({"version": 1}), json!({"version": 2}), Value::Null);
        assert!(is_wrong(Some(&new), Some(&old), Some(&new)));
        assert!(is_wrong(Some(&new), Some(&gone), Some(&new)));
        assert!(is_wrong(Some(&gone), Some(&old), Some(&gone)));
        assert!(!is_wrong(Some(&new), Some(&new), Some(&new)));
        // It was changed meanwhile, or somebody did not answer.
        assert!(!is_wrong(Some(&old), Some(&old), Some(&new)));
        assert!(!is_wrong(Some(&new), None, Some(&new)));
        assert!(!is_wrong(None, Some(&old), None));
    }

    #[test]
    fn records_are_compared_whole_but_for_what_a_node_says_of_itself() {
        let record = |node: u8, version: u8| json!({"id": "a", "schema_url": format!("http://node-{node}/"), "version": version});
        let side = |record: Value| BTreeMap::from([("a".to_owned(), of_any_node(&record))]);
        assert!(differing_ids(&side(record(1, 1)), &side(record(2, 1))).is_empty());
        assert_eq!(differing_ids(&side(record(1, 1)), &side(record(2, 2))), ["a"]);
        assert_eq!(differing_ids(&BTreeMap::new(), &side(record(2, 2))), ["a"]);
    }
}
