//! Finding nodes that moved while this one was away.
//!
//! The directory says where nodes are, and a node that moved tells the others. If
//! so many moved at once that nobody reaches anybody, what remains are the
//! addresses that an operator configured to join through: they are asked who
//! answers there.

use std::{collections::BTreeMap, sync::Arc};

use cardea_raft::{
    NodeId, Peers,
    transport::{ChannelSettings, Channels, Purpose},
};
use futures::future::join_all;

use super::Opened;
use crate::{member::Member, service::client};

/// Asks the seeds who they are, while there are nodes that nothing is heard of.
pub(super) async fn ask(member: &Arc<Member>) {
    let seeds = member.seeds.read().clone();
    let Some(seeds) = seeds else { return };
    let view = member.directory.view();
    if view.members().all(|(node, _)| member.is_heard(node)) {
        return;
    }
    let channels = &seeds.channels;
    let asked = seeds.addresses.iter().map(|(seed, address)| async move {
        let channel = channels.channel(*seed, Purpose::Cluster);
        match client::status_over(member, channel, NodeId(0)).await {
            Ok(report) if report.node != member.node.0 => {
                member.book.moved(NodeId(report.node), report.process, address.clone());
            }
            Ok(_) => {}
            Err(reason) => tracing::debug!(address, reason, "a seed is silent"),
        }
    });
    join_all(asked).await;
}

/// Addresses to ask, under numbers that mean nothing else.
#[derive(Clone)]
pub(crate) struct Seeds {
    pub(super) addresses: BTreeMap<NodeId, String>,
    pub(super) channels: Arc<Channels>,
}

impl Seeds {
    /// Seeds that are dialled with these certificates.
    pub(super) fn new(
        seeds: &[String],
        options: &Opened,
        tls: cardea_raft::tls::ClientTls,
    ) -> Self {
        let addresses: BTreeMap<NodeId, String> = (1..)
            .map(NodeId)
            .zip(seeds.iter().map(|seed| options.dial.get(seed).unwrap_or(seed).clone()))
            .collect();
        let book = Arc::new(Addresses(addresses.clone()));
        let network = options.network.clone();
        Self { addresses, channels: Channels::over(network, book, tls, ChannelSettings::default()) }
    }
}

struct Addresses(BTreeMap<NodeId, String>);

impl Peers for Addresses {
    fn address(&self, node: NodeId) -> Option<String> {
        self.0.get(&node).cloned()
    }
}
