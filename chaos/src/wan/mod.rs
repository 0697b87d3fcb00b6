//! A wide network on one machine: every node, and the clients of every region, in a
//! network namespace of its own, joined by a switch of this process that makes them
//! as far apart as a [`Profile`] says, and cuts, delays, loses, doubles and reorders
//! while they talk.
//!
//! Needs [`isolation`](crate::isolation): devices and namespaces go with the process.
//! Port 0 of the switch is the operator's (this process, in its own namespace, near
//! to everybody and never cut off), then come the nodes, then the clients.

pub mod check;
pub mod link;
pub mod namespace;
pub mod profile;
pub mod switch;

use std::{net::Ipv4Addr, time::Duration};

use self::{
    link::Link,
    namespace::{Namespace, Outpost, run},
    profile::Profile,
    switch::{Count, Switch, mac},
};

/// A direction: from a port to another.
pub type Pair = (usize, usize);

/// Where something stands in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its port of the switch.
    pub port: usize,
    /// Its region, from 0.
    pub region: usize,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network.
    pub namespace: Namespace,
}

/// The network.
#[derive(Debug)]
pub struct Wan {
    /// How far apart its regions are.
    pub profile: Profile,
    /// Where nodes stand.
    pub nodes: Vec<Place>,
    /// Where the clients of each region stand.
    pub clients: Vec<Place>,
    switch: Switch,
}

impl Wan {
    /// Makes the network for nodes in these regions, and a place for the clients of
    /// each region.
    pub fn build(profile: Profile, regions: &[usize], seed: u64) -> anyhow::Result<Self> {
        let node_names = (1..=regions.len()).map(|number| format!("node-{number}"));
        let client_names = (1..=profile.regions()).map(|number| format!("clients-{number}"));
        let names: Vec<String> =
            ["operator".to_owned()].into_iter().chain(node_names).chain(client_names).collect();
        let devices: Vec<String> = (0..names.len()).map(device).collect();
        let switch = Switch::open(&devices, seed)?;

        run("ip", &["addr", "add", &with_mask(0), "dev", &devices[0]])?;
        run("ip", &["link", "set", &devices[0], "up"])?;
        enter_neighbours(None, 0, names.len())?;
        let mut places = Vec::new();
        for port in 1..names.len() {
            let namespace = Namespace::make(&names[port])?;
            namespace.adopt(&devices[port], &with_mask(port))?;
            enter_neighbours(Some(&namespace), port, names.len())?;
            let region = regions.get(port - 1).copied();
            let region = region.unwrap_or_else(|| port - 1 - regions.len());
            places.push(Place { port, region, address: address(port), namespace });
        }
        let clients = places.split_off(regions.len());
        let wan = Self { profile, nodes: places, clients, switch };
        wan.heal();
        Ok(wan)
    }

    /// A runtime for the clients of a region.
    pub fn outpost(&self, region: usize) -> anyhow::Result<Outpost> {
        self.clients[region].namespace.runtime()
    }

    /// Every direction between nodes.
    pub fn between_nodes(&self) -> Vec<Pair> {
        self.pairs(&self.nodes, &self.nodes)
    }

    /// The directions from some nodes to others, by their positions.
    pub fn from_to(&self, from: &[usize], to: &[usize]) -> Vec<Pair> {
        let ports = |positions: &[usize]| positions.iter().map(|at| self.nodes[*at].port).collect();
        cross(ports(from), ports(to))
    }

    /// Both directions between some nodes and all others.
    pub fn around(&self, inside: &[usize]) -> Vec<Pair> {
        let outside: Vec<usize> = (0..self.nodes.len()).filter(|at| !inside.contains(at)).collect();
        [self.from_to(inside, &outside), self.from_to(&outside, inside)].concat()
    }

    /// Every direction into and out of a region, clients' too; within it all goes on.
    pub fn around_region(&self, region: usize) -> Vec<Pair> {
        let all: Vec<&Place> = self.nodes.iter().chain(&self.clients).collect();
        let of = |inside: bool| {
            let there = |place: &&&Place| (place.region == region) == inside;
            all.iter().filter(there).map(|place| place.port).collect::<Vec<_>>()
        };
        [cross(of(true), of(false)), cross(of(false), of(true))].concat()
    }

    /// Cuts these directions; others stay as they are.
    pub fn cut(&self, pairs: &[Pair]) {
        self.change(pairs, |link| link.cut = true);
    }

    /// Changes the links of these directions.
    pub fn change(&self, pairs: &[Pair], change: impl Fn(&mut Link)) {
        for (from, to) in pairs {
            self.switch.change(*from, *to, &change);
        }
    }

    /// Makes every link what the profile says.
    pub fn heal(&self) {
        let all: Vec<&Place> = self.nodes.iter().chain(&self.clients).collect();
        for from in &all {
            for to in &all {
                let link = self.profile.link(from.region, to.region);
                self.switch.set(from.port, to.port, link);
            }
            // The operator is near, and no part of what is measured.
            self.switch.set(0, from.port, Link::default());
            self.switch.set(from.port, 0, Link::default());
        }
    }

    /// What was counted in these directions together.
    pub fn count(&self, pairs: &[Pair]) -> Count {
        pairs.iter().map(|(from, to)| self.switch.count(*from, *to)).fold(
            Count::default(),
            |sum, count| Count {
                passed: sum.passed + count.passed,
                cut: sum.cut + count.cut,
                lost: sum.lost + count.lost,
            },
        )
    }

    /// How long a question from the clients of a region to a node takes at least.
    pub fn distance(&self, region: usize, node: usize) -> Duration {
        self.profile.round_trip(region, self.nodes[node].region)
    }

    fn pairs(&self, from: &[Place], to: &[Place]) -> Vec<Pair> {
        let ports = |places: &[Place]| places.iter().map(|place| place.port).collect();
        cross(ports(from), ports(to))
    }
}

impl Drop for Wan {
    /// Gives the names of devices and namespaces back: a row may build one network
    /// after the other.
    fn drop(&mut self) {
        self.switch.close();
        // What cannot be removed goes with the process.
        run("ip", &["link", "del", &device(0)]).ok();
        for place in self.nodes.iter().chain(&self.clients) {
            place.namespace.forget(&device(place.port));
        }
    }
}

fn device(port: usize) -> String {
    format!("wan{port}")
}

fn cross(from: Vec<usize>, to: Vec<usize>) -> Vec<Pair> {
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).collect()
}

fn address(port: usize) -> Ipv4Addr {
    let low = u8::try_from(port + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 77, 0, low)
}

fn with_mask(port: usize) -> String {
    format!("{}/24", address(port))
}

/// Nobody has to ask who has an address: the switch passes no broadcasts.
fn enter_neighbours(
    namespace: Option<&Namespace>,
    port: usize,
    ports: usize,
) -> anyhow::Result<()> {
    let mut script = String::new();
    for other in (0..ports).filter(|other| *other != port) {
        let hex: Vec<String> = mac(other).iter().map(|byte| format!("{byte:02x}")).collect();
        script.push_str(&format!(
            "neigh replace {} lladdr {} dev wan{port} nud permanent\n",
            address(other),
            hex.join(":")
        ));
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let path = file.path().display().to_string();
    match namespace {
        Some(namespace) => run("ip", &["-n", &namespace.name, "-batch", &path]),
        None => run("ip", &["-batch", &path]),
    }
    .map(|_| ())
}
