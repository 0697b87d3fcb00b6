//! How long what people do takes, by where they are and where the leaders are, beside
//! the least that distances allow.
//!
//! One cluster of three nodes in three regions goes through scenes: on a local network,
//! over regions with all leaders in one of them, in turn, with a region cut off, and
//! with a node whose every message comes late. In each, a client in every region does
//! one thing after the other through the node of its region ([`operation`]); [`bound`]
//! says what round trips alone ask for, [`report`] tells and draws.
//!
//! It is here and not with the benches because what is measured is the network that
//! `chaos` makes, and the benches know nothing of it.

pub mod bound;
pub mod operation;
pub mod report;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use self::{
    bound::Distances,
    operation::{Client, Operation},
};
use crate::{
    lab::{Lab, LabPlan, region_name},
    wan::profile::Profile,
};

/// How much later whatever a slow node sends and gets arrives.
const SLOWNESS: Duration = Duration::from_millis(100);
/// How long leaders may take to be where they should be.
const MOVE_MAX: Duration = Duration::from_secs(120);
/// Failures in a row after which an operation is given up: it cannot be done there.
const FAILURES_MAX: usize = 3;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often a scene is begun during which leaders move.
const ATTEMPTS_MAX: usize = 3;
/// Small synced writes by which the disk is measured.
const SYNCS: usize = 40;

/// What is done to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Calm,
    /// A region is cut off from the others.
    CutOff(usize),
    /// A node is slow.
    Slow(usize),
}

/// What figures are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// How far regions are apart.
    pub profile: Profile,
    /// The region of all leaders.
    pub leaders: usize,
    /// What is done.
    pub weather: Weather,
}

impl Scene {
    /// All of them, in an order that moves leaders seldom.
    pub const ALL: [Self; 7] = {
        const fn calm(profile: Profile, leaders: usize) -> Scene {
            Scene { profile, leaders, weather: Weather::Calm }
        }
        [
            calm(Profile::Lan, 0),
            calm(Profile::Lan, 1),
            calm(Profile::Three, 1),
            calm(Profile::Three, 2),
            calm(Profile::Three, 0),
            Scene { profile: Profile::Three, leaders: 0, weather: Weather::Slow(1) },
            Scene { profile: Profile::Three, leaders: 0, weather: Weather::CutOff(2) },
        ]
    };

    /// What it is called.
    pub fn title(&self) -> String {
        let network = match self.profile {
            Profile::Lan => "LAN",
            Profile::Three => "three regions",
            Profile::Five => "five regions",
        };
        let weather = match self.weather {
            Weather::Calm => String::new(),
            Weather::CutOff(region) => format!(", region {} cut off", region + 1),
            Weather::Slow(node) => format!(", node {} slow", node + 1),
        };
        format!("{network}, leaders in region {}{weather}", self.leaders + 1)
    }

    fn apply(&self, lab: &mut Lab) {
        lab.wan.profile = self.profile;
        lab.wan.heal();
        match self.weather {
            Weather::Calm => {}
            Weather::CutOff(region) => lab.wan.cut(&lab.wan.around_region(region)),
            Weather::Slow(node) => lab.wan.change(&lab.wan.around(&[node]), |link| {
                link.delay += SLOWNESS;
            }),
        }
    }

    fn distances(&self) -> Distances {
        let count = self.profile.regions();
        Distances::new(count, |from, to| {
            let calm = self.profile.round_trip(from, to);
            let apart = from != to;
            match self.weather {
                Weather::CutOff(region) if apart && (from == region || to == region) => None,
                Weather::Slow(node) if apart && (from == node || to == node) => {
                    Some(calm + 2 * SLOWNESS)
                }
                _ => Some(calm),
            }
        })
    }
}

/// What an operation took at a place.
#[derive(Debug, Clone)]
pub struct Figure {
    /// In what.
    pub scene: Scene,
    /// The region of the client.
    pub region: usize,
    /// What was done.
    pub operation: Operation,
    /// How long each took that was done, ascending.
    pub took: Vec<Duration>,
    /// How many were not done.
    pub failed: usize,
    /// What distances and the disk ask for at least; `None`: it cannot be done.
    pub bound: Option<Duration>,
}

impl Figure {
    /// What so many of a hundred took at most.
    pub fn percentile(&self, of_hundred: usize) -> Option<Duration> {
        let last = self.took.len().checked_sub(1)?;
        let at = (self.took.len() * of_hundred).div_ceil(100).saturating_sub(1);
        self.took.get(at.min(last)).copied()
    }

    /// The longest.
    pub fn worst(&self) -> Option<Duration> {
        self.took.last().copied()
    }
}

/// What a run found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Every figure.
    pub figures: Vec<Figure>,
    /// How long a small synced write takes, in the middle of many.
    pub sync: Duration,
}

/// Runs all scenes; `samples` is how often each cheap operation is done at each place.
pub async fn survey(plan: LabPlan, samples: usize, say: fn(&str)) -> anyhow::Result<Survey> {
    let mut lab = Lab::start(plan).await?;
    let mut clients = Vec::new();
    for stand in &lab.stands {
        let node = *stand.run.near.first().context("no node is near")?;
        let node = stand.run.nodes[node].patient(PATIENCE);
        clients.push(Client::new(Arc::clone(&stand.run), node));
    }
    operation::prepare(&lab.cluster.nodes[0].endpoint).await?;
    let mut figures = Vec::new();
    let mut syncs = Vec::new();
    for scene in Scene::ALL {
        let mut found = None;
        for _ in 0..ATTEMPTS_MAX {
            let moving = Instant::now();
            lab.wan.profile = scene.profile;
            lab.wan.heal();
            lab.settle().await?;
            move_leaders(&lab, scene.leaders).await?;
            scene.apply(&mut lab);
            say(&format!("{}: leaders were moved in {:.1?}", scene.title(), moving.elapsed()));
            // The first requests after a move find their way; they are not what is told.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let began = Instant::now();
            let measured = measure_all(&lab, &clients, samples).await;
            syncs.extend(sync_times(lab.cluster.directory())?);
            say(&format!("{}: {:.1?}", scene.title(), began.elapsed()));
            let leaders = lab.cluster.leaders(scene.leaders).await?;
            if leaders.values().all(|node| *node == scene.leaders) {
                found = Some(measured);
                break;
            }
            say(&format!("once more: leaders moved meanwhile, {leaders:?}"));
        }
        // A leader elsewhere makes the scene another one than it is called.
        let found = found.with_context(|| format!("leaders never stay: {}", scene.title()))?;
        syncs.sort_unstable();
        let sync = syncs.get(syncs.len() / 2).copied().unwrap_or_default();
        let distances = scene.distances();
        for (region, measured) in found {
            for Measured { operation, took, failed } in measured {
                let bound = distances.bound(operation, region, scene.leaders, sync);
                figures.push(Figure { scene, region, operation, took, failed, bound });
            }
        }
    }
    syncs.sort_unstable();
    let sync = syncs.get(syncs.len() / 2).copied().unwrap_or_default();
    Ok(Survey { figures, sync })
}

/// Gives every shard its home in a region, and waits until all are led there.
async fn move_leaders(lab: &Lab, region: usize) -> anyhow::Result<()> {
    let operator = lab.cluster.nodes[0].endpoint.patient(Duration::from_secs(20));
    let node = *lab.nodes_of(region).first().context("no node in the region")?;
    let status = lab.cluster.status(0).await?;
    let positions = lab.cluster.positions(&status);
    let (id, _) = positions.iter().find(|(_, at)| **at == node).context("a node without an id")?;
    for shard in &status.shards {
        let path = format!("/cluster/shards/{}/home", shard.group);
        let reply = operator.send("POST", &path, &json!({"region": region_name(region)})).await;
        ensure!(reply.done().is_some(), "no home for group {}: {reply:?}", shard.group);
    }
    let began = Instant::now();
    loop {
        let leaders = lab.cluster.leaders(0).await?;
        let away = leaders.iter().filter(|(_, at)| **at != node);
        let away: Vec<u64> = away.map(|(group, _)| *group).collect();
        if away.is_empty() && leaders.len() == status.shards.len() {
            return Ok(());
        }
        ensure!(began.elapsed() < MOVE_MAX, "led elsewhere after {MOVE_MAX:?}: {away:?}");
        for group in away {
            // Placement would do it in its own time, a few at once.
            let path = format!("/cluster/shards/{group}/leader");
            operator.send("POST", &path, &json!({"to_node": id})).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What a client found of one operation.
struct Measured {
    operation: Operation,
    took: Vec<Duration>,
    failed: usize,
}

/// Has the clients of all regions do everything, at the same time.
async fn measure_all(lab: &Lab, clients: &[Client], samples: usize) -> Vec<(usize, Vec<Measured>)> {
    let mut working = JoinSet::new();
    for ((region, client), stand) in clients.iter().enumerate().zip(&lab.stands) {
        let client = client.clone();
        let work = async move { (region, measure(client, samples).await) };
        working.spawn_on(work, &stand.handle);
    }
    let mut found = working.join_all().await;
    found.sort_by_key(|(region, _)| *region);
    found
}

/// Does everything, one after the other.
async fn measure(mut client: Client, samples: usize) -> Vec<Measured> {
    let mut measured = Vec::new();
    for operation in Operation::ALL {
        let wanted = if operation.is_costly() { samples.div_ceil(4) } else { samples };
        let (mut took, mut failed, mut in_a_row) = (Vec::new(), 0, 0);
        while took.len() + failed < wanted && in_a_row < FAILURES_MAX {
            match client.perform(operation).await {
                Some(duration) => {
                    took.push(duration);
                    in_a_row = 0;
                }
                None => {
                    failed += 1;
                    in_a_row += 1;
                }
            }
        }
        took.sort_unstable();
        measured.push(Measured { operation, took, failed });
    }
    measured
}

/// How long small synced writes take in a folder.
fn sync_times(folder: &std::path::Path) -> anyhow::Result<Vec<Duration>> {
    use std::io::Write as _;
    let path = folder.join("sync-probe");
    let mut file = std::fs::File::create(&path)?;
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(took)
}
