//! Departures, backups, restores and verification, as operators ask for them: the
//! cluster does the work, the layers say what their rows mean.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cardea_cluster::{
    NodeId, OperationError,
    life::{
        self, BackupError, BackupPlan, IndexRules, Mending, Pace, RestoreError, RestorePlan,
        restore::Fate,
        rules::expected_of,
        verify::{self, Problem},
    },
    member::Member,
};
use cardea_identity::upkeep;
use cardea_permission::upkeep as permission;
use cardea_storage::{Index, IndexRow, Key, Row, Tag, Timestamp, version::VERSION_MAX};

use super::{
    Declined,
    cluster::{operation_declined, rfc3339, sentence, store_declined},
    wire::{Archive, ArchiveReport, Verify, VerifyReport},
};
use crate::apikey::table::{self as apikey, ApiKeyTable};

/// How long a drain is waited for.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);
/// How long a decommission is waited for; it goes on behind the answer.
const DECOMMISSION_WITHIN: Duration = Duration::from_secs(25);

/// What the layers know of their indexes.
pub(crate) struct LayerRules;

impl IndexRules for LayerRules {
    fn indexes(&self) -> Vec<Index> {
        let of_layers = upkeep::INDEXES.into_iter().chain(permission::INDEXES);
        of_layers.chain([apikey::INDEX]).collect()
    }

    fn expected(&self, row: &Row) -> Option<Vec<IndexRow>> {
        let own =
            || permission::expected_index_rows(row).or_else(|| expected_of::<ApiKeyTable>(row));
        upkeep::expected_index_rows(row).or_else(own)
    }

    fn leads_to(&self, row: &Row) -> Option<Vec<Key>> {
        let own = || permission::leads_to(row).or_else(|| apikey::leads_to(row));
        upkeep::leads_to(row).or_else(own)
    }
}

/// Has a node hand its leads over.
pub(super) async fn drain(member: &Arc<Member>, node: u64) -> Result<(), Declined> {
    life::drain(member, NodeId(node), DRAIN_WITHIN).await.map_err(operation_declined)
}

/// Lets a node lead again that was drained.
pub(super) async fn resume(member: &Arc<Member>, node: u64) -> Result<(), Declined> {
    life::resume(member, NodeId(node)).await.map_err(operation_declined)
}

/// Lets a node go for good.
pub(super) async fn decommission(
    member: &Arc<Member>,
    node: u64,
    forced: bool,
) -> Result<(), Declined> {
    let node = NodeId(node);
    let gone = life::decommission(member, node, forced, DECOMMISSION_WITHIN, |departing| {
        let (leads, replicas) = (departing.leads, departing.replicas);
        tracing::info!(%node, leads, replicas, "a node is leaving");
    });
    match gone.await {
        Err(OperationError::Unavailable(reason)) => Err(Declined::UnderWay(format!(
            "Not done yet, and going on: {reason}. Ask again to wait for it."
        ))),
        other => other.map_err(operation_declined),
    }
}

/// Writes a backup.
pub(super) async fn back_up(
    member: &Arc<Member>,
    archive: Archive,
) -> Result<ArchiveReport, Declined> {
    let plan = BackupPlan::new(PathBuf::from(&archive.directory));
    let report =
        life::back_up(member, &plan, |step| tracing::info!(%step, "a backup is made")).await;
    let report = report.map_err(|error| match &error {
        BackupError::NotEmpty(_) => Declined::Conflict(sentence(&error)),
        BackupError::Relative(_) => Declined::Malformed(sentence(&error)),
        BackupError::Fault(_) => Declined::Failed(sentence(&error)),
        _ => Declined::Unavailable(sentence(&error)),
    })?;
    Ok(ArchiveReport {
        directory: archive.directory,
        cut_at: rfc3339(Timestamp(report.manifest.cut_at)),
        shards: u32::try_from(report.manifest.groups.len()).unwrap_or(u32::MAX),
        bytes: report.bytes,
        rows: report.rows,
        api_keys_revoked: 0,
    })
}

/// Fills this cluster, which must be new, from a backup. Sessions and API keys made before
/// the cut are revoked, for what was revoked after it is unknown; keys that this cluster
/// made for itself hold.
pub(super) async fn restore(
    member: &Arc<Member>,
    archive: Archive,
    now: Timestamp,
) -> Result<ArchiveReport, Declined> {
    let Archive { keep_sessions, keep_api_keys, .. } = archive;
    if !Path::new(&archive.directory).is_absolute() {
        let relative = BackupError::Relative(archive.directory);
        return Err(Declined::Malformed(sentence(&relative)));
    }
    let plan = RestorePlan {
        directory: PathBuf::from(&archive.directory),
        transient: upkeep::TRANSIENT.to_vec(),
        // Keys that reach the new cluster, and attempts on accounts that it did not have yet.
        tolerated: vec![Tag::API_KEY, apikey::INDEX.tag, Tag::ATTEMPTS],
        filter: Arc::new(move |row: &Row| {
            if [Tag::API_KEY, apikey::INDEX.tag].contains(&row.key.tag()) {
                return if keep_api_keys { Fate::Keep } else { Fate::Drop };
            }
            if keep_sessions {
                return Fate::Keep;
            }
            upkeep::revoked_session(row, now).map_or(Fate::Keep, Fate::Replace)
        }),
    };
    let report =
        life::restore(member, &plan, |step| tracing::info!(%step, "a backup is restored")).await;
    let report = report.map_err(|error| match &error {
        RestoreError::NotEmpty(_) | RestoreError::Another | RestoreError::Version { .. } => {
            Declined::Conflict(sentence(&error))
        }
        RestoreError::Archive(_) | RestoreError::Keys(_) => Declined::Malformed(sentence(&error)),
        RestoreError::Fault(_) => Declined::Failed(sentence(&error)),
        _ => Declined::UnderWay(sentence(&error)),
    })?;
    Ok(ArchiveReport {
        directory: archive.directory,
        cut_at: rfc3339(Timestamp(report.manifest.cut_at)),
        shards: u32::try_from(report.manifest.groups.len()).unwrap_or(u32::MAX),
        bytes: 0,
        rows: report.restored,
        api_keys_revoked: report.dropped.get(&Tag::API_KEY).copied().unwrap_or(0),
    })
}

/// Compares indexes with homes, and replicas with each other.
pub(super) async fn verify(member: &Arc<Member>, asked: Verify) -> Result<VerifyReport, Declined> {
    let version = member.directory().view().version();
    if asked.fill && version < VERSION_MAX {
        // A node that does not know an index leaves its rows behind.
        return Err(Declined::Conflict(format!(
            "The cluster is at version {version}, and this node knows {VERSION_MAX}: end the upgrade first."
        )));
    }
    let mending = if asked.fill { Mending::Missing } else { Mending::None };
    let report = verify::verify(member, &LayerRules, Pace::default(), mending, |_, _| {}).await;
    let report = report.map_err(store_declined)?;
    if report.filled > 0 {
        tracing::info!(rows = report.filled, "index rows that were missing are filled");
    }
    let problems = report.problems.iter().map(in_words).collect();
    Ok(VerifyReport {
        index_rows: report.index_rows,
        homes: report.records,
        filled: report.filled,
        left_out: report.left_out,
        problems,
    })
}

fn in_words(problem: &Problem) -> String {
    match problem {
        Problem::Missing { record, index } => {
            format!("record {record} lacks its index row {index}")
        }
        Problem::Differs { record, index } => {
            format!("index row {index} says something else than record {record}")
        }
        Problem::Dangling { index, record } => {
            format!("index row {index} leads to {record}, which does not expect it")
        }
        Problem::Digest { group, index, nodes } => {
            format!("replicas of shard {group} differ at index {index}: nodes {nodes:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use cardea_cluster::{
        ClusterNode, ClusterOptions, InitPlan, NodeProfile, Security,
        life::{BuildPace, Indexing, verify::verify_indexes},
    };
    use cardea_identity::table::{
        CredentialKey, CredentialRecord, Credentials, LinkRecord, ProviderSubjectKey,
        ProviderSubjects,
    };
    use cardea_permission::{
        Tuple,
        model::Subject,
        table::{DEFAULT_SLOT, Place, TupleRecord, Tuples},
    };
    use cardea_storage::{
        Consistency, KeyId, Keyring, Secret, Store, Table, Tenant,
        engine::{Disk, Order, memory::MemoryDisk},
        store::{Draft, Verdict},
        txn::Op,
    };
    use tokio::net::TcpListener;
    use uuid::Uuid;

    use super::*;
    use crate::{
        apikey::{ApiKey, table::ApiKeyRecord},
        clock::SystemClock,
        entropy::SystemEntropy,
    };

    /// What the layers know, of a release that brings all their indexes.
    struct Brought;

    impl IndexRules for Brought {
        fn indexes(&self) -> Vec<Index> {
            let known = LayerRules.indexes().into_iter();
            known.map(|index| Index { since: VERSION_MAX, ..index }).collect()
        }

        fn expected(&self, row: &Row) -> Option<Vec<IndexRow>> {
            LayerRules.expected(row)
        }

        fn leads_to(&self, row: &Row) -> Option<Vec<Key>> {
            LayerRules.leads_to(row)
        }
    }

    async fn node(disk: &Arc<dyn Disk>, version_max: u32, indexing: Indexing) -> Arc<ClusterNode> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let opened = ClusterNode::open(ClusterOptions {
            profile: NodeProfile {
                name: "one".to_owned(),
                region: "here".to_owned(),
                zone: String::new(),
                address,
                public_url: String::new(),
                admin_url: String::new(),
                binary_version: "test".to_owned(),
            },
            listener: listener.into(),
            security: Security::LoopbackPlain,
            disk: disk.clone(),
            data_dir: PathBuf::from("/data"),
            reserve_bytes: 1 << 20,
            master: Keyring::new(vec![(KeyId(1), Secret::new([7; 32]))]).unwrap(),
            indexing,
            dial: Default::default(),
            version_max,
            raft: Default::default(),
            flush: Default::default(),
            raft_runtime: tokio::runtime::Handle::current(),
            memory: || None,
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        });
        opened.await.unwrap()
    }

    /// Waits for a minute at most.
    async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
        for _ in 0..3_000 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}: not within a minute");
    }

    /// The row of a record without those of its indexes, as of a release that has none.
    fn bare<T: Table>(key: &T::Key, record: &T::Record) -> Op {
        let own = T::key(key);
        let is_own = |op: &Op| op.effect.as_ref().is_some_and(|e| e.key() == own.as_bytes());
        T::puts(key, record, None).into_iter().find(is_own).unwrap()
    }

    async fn commit(store: &Arc<dyn Store>, op: Op) -> bool {
        let read_time = store.clock().now();
        let draft = Draft { ops: vec![op], read_time, ..Draft::default() };
        matches!(store.commit(draft).await, Ok(Verdict::Committed(_)))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn indexes_of_every_layer_that_an_upgrade_brings_are_built() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1));
        let older = node(&disk, VERSION_MAX - 1, Indexing::default()).await;
        older.init(InitPlan::small("older")).await.unwrap();
        let tuple: Tuple = "Doc:1#viewers@ann".parse().unwrap();
        let place = Place { tenant: Tenant(0), slot: DEFAULT_SLOT };
        let key = ApiKey::from_random([4; 40]);
        let kept = ApiKeyRecord { name: "ci".to_owned(), ..ApiKeyRecord::default() };
        let digest = [8; 32];
        let link = LinkRecord { digest: digest.to_vec().into(), ..LinkRecord::default() };
        let identity = Uuid::from_u128(1 << 78 | 2 << 62 | 9);
        let kind = cardea_identity::session::CredentialKind::Oidc.number();
        let linked = CredentialRecord { links: vec![link], ..CredentialRecord::default() };
        let records = [
            bare::<Tuples>(&place.key(&tuple), &TupleRecord::default()),
            bare::<ApiKeyTable>(&apikey::ApiKeyKey(key.id()), &kept),
            bare::<Credentials>(&CredentialKey { tenant: Tenant(0), identity, kind }, &linked),
        ];
        for record in records {
            eventually("it is written", async || commit(&older.store(), record.clone()).await)
                .await;
        }
        older.shutdown().await.unwrap();
        drop(older);

        let pace =
            BuildPace { rows: 500, pause: Duration::ZERO, grace: Duration::from_millis(100) };
        let newer = node(&disk, VERSION_MAX, Indexing { rules: Arc::new(Brought), pace }).await;
        eventually("all indexes are whole", async || {
            let indexes = newer.status().indexes;
            indexes.len() == Brought.indexes().len() && indexes.iter().all(|index| index.whole)
        })
        .await;
        let view = newer.store().view(Consistency::Strong);
        let found =
            async |range| view.scan_rows(range, 9, Order::Forward, false).await.unwrap().rows;
        let subject = Subject::Id("ann".to_owned());
        assert_eq!(found(place.subject(&subject, None, None)).await.len(), 1);
        assert_eq!(found(place.relation("Doc", "viewers")).await.len(), 1);
        assert_eq!(found(apikey::range_of(Tenant(0))).await.len(), 1);
        let subject = ProviderSubjectKey { tenant: Tenant(0), digest };
        let owner = view.peek::<ProviderSubjects>(&subject).await.unwrap().unwrap();
        assert_eq!(owner.record.id(), identity);
        let (store, none, told) = (newer.store(), Mending::None, &mut |_, _| {});
        let whole = verify_indexes(&store, &LayerRules, Pace::default(), none, told);
        let whole = whole.await.unwrap();
        assert_eq!((whole.problems, whole.records), (vec![], 3));
        newer.abandon().await;
    }

    /// A key that reaches the new cluster; what was revoked after the cut holds no more
    /// than anything else of it, unless that is wanted.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn api_keys_of_a_backup_hold_only_where_that_is_asked_for_and_own_ones_stay() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(2));
        let first = node(&disk, VERSION_MAX, Indexing::default()).await;
        first.init(InitPlan::small("first")).await.unwrap();
        let formed = async |node: &ClusterNode| {
            eventually("the shards are formed", async || {
                node.directory().view().shards.values().all(|shard| shard.formed)
            })
            .await;
        };
        formed(&first).await;
        let keys = crate::apikey::store::KeyStore::new(first.store());
        let (old, _) = keys.create(Tenant(0), "old", &["admin".to_owned()], None).await.unwrap();
        let archive = |keep_api_keys| Archive {
            directory: "/backup".to_owned(),
            keep_sessions: false,
            keep_api_keys,
        };
        back_up(&first.member().unwrap(), archive(false)).await.unwrap();
        first.abandon().await;

        for keeps in [false, true] {
            disk.remove(Path::new("/data")).unwrap();
            let second = node(&disk, VERSION_MAX, Indexing::default()).await;
            second.init(InitPlan::small("second")).await.unwrap();
            formed(&second).await;
            let keys = crate::apikey::store::KeyStore::new(second.store());
            let scopes = ["admin".to_owned()];
            let (own, _) = keys.create(Tenant(0), "own", &scopes, None).await.unwrap();
            let (member, now) = (second.member().unwrap(), second.store().clock().now());
            let relative = Archive { directory: "backup".to_owned(), ..archive(keeps) };
            let refused = restore(&member, relative, now).await;
            assert!(
                matches!(&refused, Err(Declined::Malformed(why)) if why.contains("absolute")),
                "{refused:?}"
            );
            let report = restore(&member, archive(keeps), now).await.unwrap();
            assert_eq!(report.api_keys_revoked, u64::from(!keeps));
            use crate::listener::keys::ApiKeys as _;
            assert!(keys.recognize(&own).await.unwrap().is_some());
            assert_eq!(keys.recognize(&old).await.unwrap().is_some(), keeps);
            assert_eq!(keys.list(Tenant(0)).await.unwrap().len(), 1 + usize::from(keeps));
            let (store, none, told) = (second.store(), Mending::None, &mut |_, _| {});
            let whole = verify_indexes(&store, &LayerRules, Pace::default(), none, told);
            assert_eq!(whole.await.unwrap().problems, []);
            second.abandon().await;
        }
    }
}
