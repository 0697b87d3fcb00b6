//! Becoming a member: the log, the transport, the listener, the replicas found
//! on the disk, and the tasks.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64},
};

use cardea_raft::{
    ClusterId, GroupId, Groups, Host, HostOptions, Loss, NodeId, Question, ReplicaId, StartError,
    Testimony,
    tls::{self, ClientTls, ServerTls},
    transport::{self, ChannelSettings, Channels, GrpcTransport, Listener, TransportSettings},
    types::Beat,
};
use cardea_storage::Fault;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::{
    ClusterNode, OpenError, Security, heartbeat,
    identity::{self, Identity},
    lead, reconcile,
};
use crate::{
    DIRECTORY,
    directory::{edit, follow, records::NodeState},
    member::{AddressBook, Member},
    replica::{Replica, ReplicaParts, flusher},
    service::{client, forward::Forwarders, server},
};

/// Replicas that are started at a time: opening one waits for the disk now and then.
const STARTED_AT_ONCE: usize = 4;

impl ClusterNode {
    /// Starts everything that a member does. The directory's replica runs when
    /// the call returns.
    pub(super) async fn become_member(
        &self,
        identity: &Identity,
    ) -> Result<Arc<Member>, OpenError> {
        let Some((cluster, node)) = identity.of_member() else {
            return Err(Fault::new("the identity names no node").into());
        };
        let (server_tls, client_tls) = self.tls(cluster)?;
        let options = &self.options;
        let book = AddressBook::new(self.directory.clone(), options.dial.clone());
        let network = options.network.clone();
        let channels =
            Channels::over(network, book.clone(), client_tls, ChannelSettings::default());
        let transport = Arc::new(GrpcTransport::new(
            cluster,
            node,
            channels.clone(),
            options.disk.clone(),
            TransportSettings {
                snapshot_bytes_per_second: options.raft.snapshot_bytes_per_second,
                ..TransportSettings::default()
            },
        ));
        let host = Host::open(
            HostOptions {
                cluster,
                node,
                disk: options.disk.clone(),
                log_directory: options.data_dir.join("log"),
                settings: options.raft,
                runtime: options.raft_runtime.clone(),
            },
            transport,
        )
        .await?;
        let member = Arc::new(Member {
            cluster,
            node,
            region: options.profile.region.clone(),
            address: options.profile.address.clone(),
            binary_version: options.profile.binary_version.clone(),
            version_max: options.version_max,
            process: options.process,
            clock: options.clock.clone(),
            entropy: options.entropy.clone(),
            disk: options.disk.clone(),
            data_dir: options.data_dir.clone(),
            reserve_bytes: options.reserve_bytes,
            master: options.master.clone(),
            indexing: options.indexing.clone(),
            host,
            channels,
            forwarders: Forwarders::default(),
            book,
            directory: self.directory.clone(),
            comparison: self.comparison.clone(),
            shards: self.shards.clone(),
            store: self.store.clone(),
            replicas: RwLock::default(),
            offices: RwLock::default(),
            heard: Mutex::default(),
            heard_news: Notify::new(),
            leaders: Mutex::default(),
            sought: Mutex::default(),
            seeds: RwLock::default(),
            draining: AtomicBool::new(false),
            rules: RwLock::default(),
            announced: AtomicBool::new(false),
            memory: options.memory,
            disk_free: AtomicU64::new(u64::MAX),
            disk_full: AtomicBool::new(false),
            hung: Mutex::default(),
            roomless: RwLock::default(),
            wake: Notify::new(),
            faulted: watch::Sender::new(None),
            stopping: self.stopping.clone(),
        });
        start_found(&member, identity).await?;
        heartbeat::expect_clocks(&member);
        self.serve(&member, server_tls);
        self.shards.admit(member.clone());
        self.start_tasks(&member);
        self.member.send_replace(Some(member.clone()));
        Ok(member)
    }

    /// The TLS of both directions. Certificates name a cluster, which must be
    /// that of the data.
    pub(super) fn tls(&self, cluster: ClusterId) -> Result<(ServerTls, ClientTls), OpenError> {
        match &self.options.security {
            Security::LoopbackPlain => Ok((ServerTls::LoopbackPlain, ClientTls::LoopbackPlain)),
            Security::Mutual(credentials) => {
                let expected = credentials.identity().cluster;
                if expected != cluster {
                    return Err(OpenError::OtherCluster { expected, found: cluster });
                }
                let server = tls::server_tls(credentials, cluster)?;
                Ok((server, tls::client_tls(credentials, cluster)?))
            }
        }
    }

    fn serve(&self, member: &Arc<Member>, tls: ServerTls) {
        let Some(listener) = self.listener.lock().take() else { return };
        let routes = transport::routes(
            member.cluster,
            Arc::new(Served { host: Arc::downgrade(&member.host), node: member.node }),
            member.disk.clone(),
            TransportSettings::default(),
            self.stopping.clone(),
        )
        .add_service(server::service(member));
        let (stopping, failed) = (self.stopping.clone(), member.clone());
        let serving = self.options.raft_runtime.spawn(async move {
            let served = match registered_anew(listener) {
                Ok(listener) => transport::serve(listener, tls, routes, stopping).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = served {
                failed.raise(Fault::caused("serve the other nodes", error));
            }
        });
        self.tasks.lock().push(serving);
    }

    fn start_tasks(&self, member: &Arc<Member>) {
        let mut tasks = self.tasks.lock();
        if let Some(replica) = member.replica(DIRECTORY) {
            tasks.push(tokio::spawn(follow::follow(member.clone(), replica.clone())));
            tasks.push(tokio::spawn(follow::confirm(member.clone(), replica)));
        }
        tasks.push(tokio::spawn(heartbeat::run(member.clone())));
        tasks.push(tokio::spawn(reconcile::run(member.clone())));
        tasks.push(tokio::spawn(lead::run(member.clone())));
        tasks.push(tokio::spawn(crate::life::driver::run(member.clone())));
        tasks.push(tokio::spawn(crate::life::index::run(member.clone())));
        tasks.push(tokio::spawn(flush(member.clone(), self.options.flush)));
    }

    /// Tells the directory that the node has started, and where it is now. Refuses
    /// if another process answers under its id, or the cluster's version is not known
    /// here. Goes on in the background if the directory cannot be written yet.
    pub(super) async fn announce(&self, identity: &Identity) -> Result<(), OpenError> {
        let Some(member) = self.member() else { return Ok(()) };
        let view = self.directory.view();
        if let Err(too_old) = self.must_know(view.version()) {
            super::stop::abandon(self).await;
            return Err(too_old);
        }
        let known = view.nodes.get(&member.node).cloned();
        if let Some(record) = known
            && record.address != self.options.profile.address
            && let Ok(report) = client::status(&member, member.node).await
            && report.node == member.node.0
            && report.process != member.process
        {
            super::stop::abandon(self).await;
            return Err(OpenError::NodeRunsElsewhere(member.node, record.address));
        }
        let (profile, identity) = (self.options.profile.clone(), identity.clone());
        let mut tasks = self.tasks.lock();
        tasks.push(tokio::spawn(identity::note_version(member.clone())));
        tasks.push(tokio::spawn(async move {
            announce(&member, &profile, &identity).await;
        }));
        Ok(())
    }
}

/// The listener, registered with the runtime that serves it.
fn registered_anew(listener: Listener) -> std::io::Result<Listener> {
    match listener {
        Listener::Tcp(tcp) => tokio::net::TcpListener::from_std(tcp.into_std()?).map(Listener::Tcp),
        other => Ok(other),
    }
}

/// The groups as the listener reaches them. Connections may outlive the node for
/// a moment, and must not hold its log.
struct Served {
    host: Weak<Host>,
    node: NodeId,
}

impl Groups for Served {
    fn node(&self) -> NodeId {
        self.node
    }

    fn replica(&self, group: GroupId) -> Option<cardea_raft::Replica> {
        self.host.upgrade()?.replica(group)
    }

    fn hears(&self, group: GroupId, replica: ReplicaId, beat: &Beat) -> bool {
        self.host.upgrade().is_some_and(|host| host.hears(group, replica, beat))
    }

    fn testify(&self, question: &Question) -> Option<Testimony> {
        self.host.upgrade()?.testify(question)
    }

    fn hung_up(&self, node: NodeId) {
        if let Some(host) = self.host.upgrade() {
            host.hung_up(node);
        }
    }

    fn has_lost(&self, loss: &Loss) -> bool {
        self.host.upgrade().is_some_and(|host| host.has_lost(loss))
    }
}

/// Writes this node's row until it is written.
async fn announce(member: &Arc<Member>, profile: &super::NodeProfile, identity: &Identity) {
    let started_at = member.clock.now().0;
    while !member.stopping.is_cancelled() {
        let written = edit::announce_node(&member.store, member.node, |record| {
            record.name.clone_from(&profile.name);
            record.region.clone_from(&profile.region);
            record.zone.clone_from(&profile.zone);
            record.address.clone_from(&profile.address);
            record.public_url.clone_from(&profile.public_url);
            record.admin_url.clone_from(&profile.admin_url);
            record.binary_version.clone_from(&profile.binary_version);
            record.version_max = member.version_max;
            record.started_at = started_at;
            record.process = member.process;
            if matches!(record.state(), NodeState::Joining | NodeState::Draining) {
                record.set_state(NodeState::Live);
            }
        });
        let written = tokio::select! {
            () = member.stopping.cancelled() => return,
            written = written => written,
        };
        match written {
            Ok(()) => {
                // Once the view has it, another process in the row is another one.
                let mut views = member.directory.watch();
                let own = |view: &Arc<crate::directory::DirectoryView>| {
                    view.nodes.get(&member.node).is_some_and(|row| row.process == member.process)
                };
                tokio::select! {
                    () = member.stopping.cancelled() => {}
                    seen = views.wait_for(own) => if seen.is_ok() {
                        member.announced.store(true, std::sync::atomic::Ordering::Release);
                    },
                }
                return;
            }
            Err(edit::EditError::NotFound(_)) if identity.founding => return,
            Err(error @ edit::EditError::TooOld { .. }) => {
                member.raise(Fault::caused("announce this node", error));
                return;
            }
            Err(error) => tracing::debug!(?error, "the directory does not know yet that we run"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Starts the replicas that this node has a log and a tablet of, and the
/// directory's.
async fn start_found(member: &Arc<Member>, identity: &Identity) -> Result<(), OpenError> {
    let mut found = member.host.stored_groups().await?;
    if identity.started && !found.contains_key(&DIRECTORY) {
        return Err(OpenError::StateLost);
    }
    // The directory first, so that addresses are known.
    let replica = found.remove(&DIRECTORY).unwrap_or(identity.replica());
    start_one(member, DIRECTORY, replica).await?;
    if let Some(replica) = member.replica(DIRECTORY) {
        let directory = member.directory.clone();
        let loaded = cardea_raft::blocking::spawn(move || directory.load(replica.machine()));
        loaded.await.map_err(|error| Fault::caused("load the directory", error))??;
    }
    stream::iter(found)
        .map(|(group, replica)| start_one(member, group, replica))
        .buffer_unordered(STARTED_AT_ONCE)
        .try_collect()
        .await
}

/// Starts a replica whose log was found. One whose tablet is lost is left to be replaced,
/// but for the directory's.
async fn start_one(
    member: &Arc<Member>,
    group: GroupId,
    replica: ReplicaId,
) -> Result<(), OpenError> {
    match start_replica(member, group, replica).await {
        Ok(()) => Ok(()),
        Err(StartError::StateLost) if group == DIRECTORY => Err(OpenError::StateLost),
        Err(StartError::StateLost) => {
            tracing::error!(%group, %replica, "the state of this replica is lost: it has to be replaced");
            Ok(())
        }
        Err(error) => Err(Fault::caused(format!("start {group}"), error).into()),
    }
}

/// Opens and starts one replica, if it does not run.
pub(crate) async fn start_replica(
    member: &Arc<Member>,
    group: GroupId,
    replica: ReplicaId,
) -> Result<(), StartError> {
    if member.replica(group).is_some() {
        return Ok(());
    }
    let at = member.tablet_at(group, replica);
    let has_log = member.host.stored_groups().await?.get(&group) == Some(&replica);
    let parts = ReplicaParts {
        group,
        replica,
        disk: member.disk.clone(),
        at: at.clone(),
        reserve_bytes: member.reserve_bytes,
        clock: member.clock.clone(),
        comparison: member.comparison.clone(),
        directory: member.directory.clone(),
    };
    let opened = cardea_raft::blocking::spawn(move || {
        // A tablet is made before the log, so a log alone has lost it.
        if has_log && !Replica::exists(parts.disk.as_ref(), &parts.at)? {
            return Ok(None);
        }
        Replica::open(parts).map(Some)
    });
    let opened = opened.await.map_err(|error| Fault::caused("open a tablet", error))??;
    let Some(opened) = opened else { return Err(StartError::StateLost) };
    member.host.start_group(group, replica, opened.clone()).await?;
    if let Some(office) = member.host.watch(group) {
        member.offices.write().insert(group, office);
    }
    member.replicas.write().insert(group, opened);
    tracing::info!(%group, %replica, "a replica runs");
    Ok(())
}

/// Flushes the tablets that need it most, again and again.
async fn flush(member: Arc<Member>, settings: flusher::FlushSettings) {
    let mut period = tokio::time::interval(flusher::PERIOD);
    loop {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            _ = period.tick() => {}
        }
        let flushed = {
            let member = member.clone();
            cardea_raft::blocking::spawn(move || {
                let due = flusher::most_due(&member.replicas(), &settings);
                for due in due {
                    if let Err(fault) = due.flush() {
                        member.raise_for(&due, fault);
                    }
                }
            })
        };
        // An error says that the runtime ends.
        drop(flushed.await);
    }
}
