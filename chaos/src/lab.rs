//! A cluster in a wide network: nodes of real processes over regions, with disks and
//! clocks of their own where a run harms those, and clients in every region.
//!
//! Nodes prove themselves to each other by certificates, as they do outside of one
//! machine. The operator (this process) reaches every node at all times; what it
//! sees is no part of any history but the last questions.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    cluster::{Cluster, Plan, Site},
    disk::Disk,
    endpoint::Endpoint,
    scratch::Scratch,
    trouble::faketime_library,
    wan::{
        Wan,
        namespace::{Outpost, run},
        profile::Profile,
    },
    workload::{Run, crowd::Stand},
};

/// How long a cluster may take to be whole again once nothing harms it.
pub const RECOVERY_MAX: Duration = Duration::from_secs(120);

/// How a laboratory is made.
#[derive(Debug, Clone)]
pub struct LabPlan {
    /// The binary, the settings, and how many nodes begin.
    pub plan: Plan,
    /// How far regions are apart.
    pub profile: Profile,
    /// The region of each node, of those that join later, too.
    pub regions: Vec<usize>,
    /// Gives every node a disk of its own of so many MiB.
    pub disk_mib: Option<u64>,
    /// Gives every node a wall clock of its own.
    pub clocks: bool,
    /// A bug to be planted, in a binary that was built for it.
    pub planted: Option<String>,
    /// The seed of every choice.
    pub seed: u64,
}

impl LabPlan {
    /// Nodes as they ship, one after the other in the regions of a profile.
    pub fn new(binary: &std::path::Path, profile: Profile, nodes: usize, seed: u64) -> Self {
        let regions = (0..nodes).map(|node| node % profile.regions()).collect();
        let plan = Plan::new(binary, nodes);
        Self { plan, profile, regions, disk_mib: None, clocks: false, planted: None, seed }
    }
}

/// The laboratory.
#[derive(Debug)]
pub struct Lab {
    /// The nodes.
    pub cluster: Cluster,
    /// The network.
    pub wan: Wan,
    /// Each node's disk; empty unless the plan asks for them.
    pub disks: Vec<Disk>,
    /// What the cluster was made of.
    pub plan: LabPlan,
    /// The run as the operator sees it.
    pub run: Arc<Run>,
    /// Where clients stand, one place a region.
    pub stands: Vec<Stand>,
    _outposts: Vec<Outpost>,
}

/// The variable that names a bug to a build that has them.
const PLANTED: &str = "PLANTED_BUG";

/// Whether a binary was built with this bug to be planted: it refuses one that is none.
pub fn has_bug(binary: &Path, bug: &str) -> anyhow::Result<bool> {
    let takes = |bug: &str| {
        let mut version = std::process::Command::new(binary);
        let ended = version.arg("version").env(PLANTED, bug).output();
        ended.map(|ended| ended.status.success()).context("ask a binary for its version")
    };
    Ok(takes(bug)? && !takes("no bug")?)
}

impl Lab {
    /// Builds the network, starts the nodes, and waits until they serve.
    pub async fn start(mut plan: LabPlan) -> anyhow::Result<Self> {
        let wan = Wan::build(plan.profile, &plan.regions, plan.seed)?;
        let scratch = Scratch::make()?;
        plan.plan.sites = wan
            .nodes
            .iter()
            .map(|place| Site {
                region: region_name(place.region),
                address: place.address,
                wrapper: place.namespace.wrapper(),
            })
            .collect();
        plan.plan.certificates = Some(make_certificates(&plan.plan, scratch.path())?);
        let cluster = Cluster::prepare_in(scratch, &plan.plan)?;
        let run = Run::new(cluster.endpoints(), plan.seed);
        let mut lab = Self {
            cluster,
            wan,
            disks: Vec::new(),
            plan,
            run,
            stands: Vec::new(),
            _outposts: Vec::new(),
        };
        for index in 0..lab.cluster.nodes.len() {
            lab.furnish(index)?;
        }
        lab.cluster.begin().await?;
        lab.place_clients()?;
        Ok(lab)
    }

    /// Starts every node again, one after the other, with a bug in it if one is named.
    pub async fn restart(&mut self, bug: Option<&str>) -> anyhow::Result<()> {
        self.plan.planted = bug.map(str::to_owned);
        for index in 0..self.cluster.nodes.len() {
            self.cluster.stop(index).await?;
            let environment = &mut self.cluster.nodes[index].launch.environment;
            environment.retain(|(name, _)| name != PLANTED);
            environment.extend(bug.map(|bug| (PLANTED.to_owned(), bug.to_owned())));
            self.cluster.launch(index)?;
            self.settle().await?;
        }
        Ok(())
    }

    /// What a node gets beside its configuration.
    fn furnish(&mut self, index: usize) -> anyhow::Result<()> {
        let node = &mut self.cluster.nodes[index];
        let folder = node.launch.config.parent().context("no folder")?.to_owned();
        let environment = &mut node.launch.environment;
        if let Some(bug) = &self.plan.planted {
            environment.push((PLANTED.to_owned(), bug.clone()));
        }
        if self.plan.clocks {
            let clock = folder.join("clock");
            std::fs::write(&clock, "+0")?;
            environment.extend(
                [
                    ("LD_PRELOAD", faketime_library()?.display().to_string()),
                    ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
                    ("FAKETIME_NO_CACHE", "1".to_owned()),
                    // A faked monotonic clock that runs wrong hangs tokio.
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            );
        }
        if let Some(mib) = self.plan.disk_mib {
            self.disks.push(Disk::make(&folder.join("disk.img"), &node.data, mib)?);
        }
        Ok(())
    }

    fn place_clients(&mut self) -> anyhow::Result<()> {
        for region in 0..self.wan.clients.len() {
            let outpost = self.wan.outpost(region)?;
            let fresh = |node: &Endpoint| Endpoint::new(node.node, node.public, node.admin);
            let nodes: Vec<Endpoint> = self.run.nodes.iter().map(fresh).collect();
            let is_near = |node: &usize| self.wan.nodes[*node].region == region;
            let mut near: Vec<usize> = (0..nodes.len()).filter(is_near).collect();
            if near.is_empty() {
                near = (0..nodes.len()).collect();
            }
            let handle = outpost.handle().context("the outpost is gone")?.clone();
            self.stands.push(Stand { handle, run: self.run.seen_from(nodes, near) });
            self._outposts.push(outpost);
        }
        Ok(())
    }

    /// One more node that is to join, not started; there must be a site for it.
    pub fn add_node(&mut self) -> anyhow::Result<usize> {
        let index = self.cluster.add_node(&self.plan.plan)?;
        self.furnish(index)?;
        Ok(index)
    }

    /// Sets a node's wall clock, from now on: `+30s`, `-0.25s`, `+0 x1.2`. Without a
    /// rate it runs as it should, whatever it did before.
    pub fn set_clock(&self, index: usize, to: &str) -> anyhow::Result<()> {
        // libfaketime keeps the last rate that it was told.
        let rate = if to.contains('x') { "" } else { " x1" };
        let folder = self.cluster.nodes[index].launch.config.parent().context("no folder")?;
        // At once, for it is read all the time.
        let (beside, clock) = (folder.join("clock.new"), folder.join("clock"));
        std::fs::write(&beside, format!("{to}{rate}"))?;
        Ok(std::fs::rename(beside, clock)?)
    }

    /// The nodes of a region.
    pub fn nodes_of(&self, region: usize) -> Vec<usize> {
        let nodes = 0..self.cluster.nodes.len();
        nodes.filter(|node| self.wan.nodes[*node].region == region).collect()
    }

    /// Waits until the cluster is whole.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        self.cluster.settle(RECOVERY_MAX).await
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Processes, then what they hold open, then the folder beneath.
        for index in 0..self.cluster.nodes.len() {
            self.cluster.kill(index).ok();
        }
        self.disks.clear();
    }
}

/// The name of a region.
pub fn region_name(region: usize) -> String {
    format!("region-{}", region + 1)
}

fn make_certificates(plan: &Plan, folder: &std::path::Path) -> anyhow::Result<PathBuf> {
    let certificates = folder.join("certificates");
    let (binary, path) = (plan.binary.display().to_string(), certificates.display().to_string());
    run(&binary, &["cert", "authority", "--out", &path])?;
    for (index, site) in plan.sites.iter().enumerate() {
        let (name, host) = (format!("node-{}", index + 1), site.address.to_string());
        let node = ["cert", "node", "--authority", &path, "--name", &name, "--host", &host];
        run(&binary, &[&node[..], &["--out", &path]].concat())?;
    }
    Ok(certificates)
}
