//! Changing the language: versions in the directory, one of them in force.
//!
//! A version is one row, and which one is in force another, small one. Both are
//! written in one transaction. A version that would strand tuples, because it no
//! longer declares a namespace or relation that they name, is refused unless forced;
//! tuples written meanwhile may be stranded all the same, as undeclared namespaces
//! may be named at any time.

use std::collections::{BTreeMap, BTreeSet};

use cardea_storage::{
    Consistency, Slot, Snaptoken, StoreError, Tenant, Timestamp,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};

use crate::{
    Service,
    language::{Declared, Language},
    model::{Subject, SubjectSet},
    opl::{SourceError, SourceFile},
    rejection::{LanguageRejection, ReadRejection},
    service::Answered,
    table::{
        DEFAULT_SLOT, LanguageFileRecord, LanguageHeadKey, LanguageHeadRecord, LanguageHeads,
        LanguageVersionKey, LanguageVersionRecord, LanguageVersions, Place, read_tuple,
    },
};

/// Versions that are kept, the one in force among them.
pub const VERSIONS_KEPT: u64 = 16;
/// Rows that are looked at together for tuples that would be stranded.
const PAGE: u32 = 1_000;
/// What would be stranded, told at most.
const STRANDED_MAX: usize = 20;

/// A version of a language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanguageVersion {
    /// Its number, from 1; 0 where none was ever put in force.
    pub version: u64,
    /// Its files.
    pub files: Vec<SourceFile>,
    /// When it was put in force.
    pub created_at: Timestamp,
}

/// A language to be put in force.
#[derive(Debug, Clone, Default)]
pub struct NewLanguage {
    /// Its files.
    pub files: Vec<SourceFile>,
    /// The version that it is to follow; `None`: whichever is in force.
    pub follows: Option<u64>,
    /// Whether tuples may be stranded.
    pub force: bool,
}

impl Service {
    /// The language in force.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get_language(
        &self,
        tenant: Tenant,
        consistency: Consistency,
    ) -> Result<LanguageVersion, StoreError> {
        let view = self.store.view(consistency);
        let head = view.get::<LanguageHeads>(&LanguageHeadKey(tenant)).await?;
        let version = head.map_or(0, |head| head.record.version);
        let key = LanguageVersionKey { tenant, version };
        let record = match view.get::<LanguageVersions>(&key).await? {
            Some(entry) => entry.record,
            None if version == 0 => LanguageVersionRecord::default(),
            None => return Err(StoreError::unavailable("the language changed while it was read")),
        };
        Ok(shown(version, record))
    }

    /// The names of the declared namespaces, in order.
    ///
    /// # Errors
    /// See [`ReadRejection`].
    pub async fn list_namespaces(
        &self,
        tenant: Tenant,
        consistency: Consistency,
    ) -> Result<Answered<Vec<String>>, ReadRejection> {
        let (held, snaptoken) = self.language(tenant, &consistency).await?;
        let value = held.language.namespaces().map(str::to_owned).collect();
        Ok(Answered { value, snaptoken })
    }

    /// Puts a language in force; gives its version, and a snaptoken that covers it.
    /// The same language again changes nothing.
    ///
    /// # Errors
    /// See [`LanguageRejection`].
    pub async fn put_language(
        &self,
        tenant: Tenant,
        new: NewLanguage,
    ) -> Result<(u64, Snaptoken), LanguageRejection> {
        let files = new.files.clone();
        let read = tokio::task::spawn_blocking(move || Language::read(&files)).await;
        let language = read
            .map_err(|error| cardea_storage::Fault::caused("reading a language", error))?
            .map_err(LanguageRejection::Malformed)?;
        let stranded = self.stranded(tenant, &language).await?;
        if !new.force && !stranded.is_empty() {
            return Err(LanguageRejection::Strands(stranded));
        }
        let (new, names) = (&new, &language.namespaces().map(str::to_owned).collect::<Vec<_>>());
        let done = self
            .store
            .transact(|t| async move {
                let head_key = LanguageHeadKey(tenant);
                let head = t.get::<LanguageHeads>(&head_key).await?;
                let version = head.map_or(0, |head| head.record.version);
                if new.follows.is_some_and(|follows| follows != version) {
                    return Err(LanguageRejection::Outdated { version });
                }
                let key = |version| LanguageVersionKey { tenant, version };
                let old = t.get::<LanguageVersions>(&key(version)).await?;
                let old = old.map(|entry| entry.record).unwrap_or_default();
                let record = record(new, names, &old, t.now());
                if version > 0 && record.files == old.files {
                    return Ok(version);
                }
                let next = version + 1;
                t.put::<LanguageVersions>(&key(next), &record, None).await?;
                t.put::<LanguageHeads>(&head_key, &LanguageHeadRecord { version: next }, None)
                    .await?;
                if let Some(outdated) = next.checked_sub(VERSIONS_KEPT).filter(|v| *v > 0) {
                    t.delete::<LanguageVersions>(&key(outdated)).await?;
                }
                Ok(next)
            })
            .await?;
        Ok((done.value, done.snaptoken))
    }

    /// What tuples name and a language would not declare any more.
    async fn stranded(
        &self,
        tenant: Tenant,
        new: &Language,
    ) -> Result<Vec<String>, LanguageRejection> {
        let (held, _) = self.language(tenant, &Consistency::Strong).await?;
        let old = held.language.clone();
        let mut stranded = BTreeSet::new();
        for namespace in old.namespaces() {
            let place = Place { tenant, slot: old.slot(namespace) };
            if !new.has(namespace) {
                let as_object = self.any(place.namespace(Some(namespace))).await?;
                if as_object || self.is_named(tenant, &old, namespace, None).await? {
                    stranded.insert(namespace.to_owned());
                }
                continue;
            }
            for name in old.names(namespace) {
                if new.declared(namespace, name) != Declared::Undeclared {
                    continue;
                }
                let as_object = self.any(place.relation(namespace, name)).await?;
                if as_object || self.is_named(tenant, &old, namespace, Some(name)).await? {
                    stranded.insert(format!("{namespace}#{name}"));
                }
            }
            if stranded.len() >= STRANDED_MAX {
                break;
            }
        }
        Ok(stranded.into_iter().collect())
    }

    async fn any(&self, range: cardea_storage::KeyRange) -> Result<bool, StoreError> {
        let scan = Scan { range, limit: 1, order: Order::Forward };
        let mut request = ReadRequest::new(Consistency::Strong);
        request.reads.push(Read::Scan(scan));
        Ok(self.store.read(request).await?.results.iter().any(|rows| !rows.rows.is_empty()))
    }

    /// Whether a subject set names a namespace, or a relation in it.
    async fn is_named(
        &self,
        tenant: Tenant,
        old: &Language,
        namespace: &str,
        relation: Option<&str>,
    ) -> Result<bool, StoreError> {
        for slot in old.slots() {
            let mut range = Place { tenant, slot }.naming(namespace, None);
            loop {
                let scan = Scan { range: range.clone(), limit: PAGE, order: Order::Forward };
                let mut request = ReadRequest::new(Consistency::Strong);
                request.reads.push(Read::Scan(scan));
                let answer = self.store.read(request).await?;
                let Some(rows) = answer.results.into_iter().next() else { break };
                let names = |subject: &Subject| match subject {
                    Subject::Set(SubjectSet { relation: named, .. }) => {
                        relation.is_none_or(|relation| relation == named)
                    }
                    Subject::Id(_) => false,
                };
                if rows.rows.iter().filter_map(read_tuple).any(|tuple| names(&tuple.subject)) {
                    return Ok(true);
                }
                match rows.rows.last().filter(|_| rows.more) {
                    Some(last) => range.start = last.key.successor(),
                    None => break,
                }
            }
        }
        Ok(false)
    }
}

fn shown(version: u64, record: LanguageVersionRecord) -> LanguageVersion {
    let files = record.files.into_iter();
    LanguageVersion {
        version,
        files: files.map(|file| SourceFile { name: file.name, text: file.text }).collect(),
        created_at: Timestamp(record.created_at),
    }
}

/// The record of a new version: namespaces that were there keep their slots.
fn record(
    new: &NewLanguage,
    names: &[String],
    old: &LanguageVersionRecord,
    now: Timestamp,
) -> LanguageVersionRecord {
    let slot = |name: &String| {
        old.slots.get(name).copied().unwrap_or_else(|| u32::from(DEFAULT_SLOT.bits()))
    };
    LanguageVersionRecord {
        files: new
            .files
            .iter()
            .map(|file| LanguageFileRecord { name: file.name.clone(), text: file.text.clone() })
            .collect(),
        created_at: now.0,
        // Those of namespaces that are gone stay: tuples of theirs may be left.
        slots: names
            .iter()
            .map(|name| (name.clone(), slot(name)))
            .chain(old.slots.clone())
            .collect(),
    }
}

/// Reads a version that was put in force.
pub(crate) fn compile(record: &LanguageVersionRecord) -> Result<Language, String> {
    let files: Vec<SourceFile> = shown(0, record.clone()).files;
    let told =
        |errors: Vec<SourceError>| errors.first().map_or_else(String::new, SourceError::to_string);
    let language = Language::read(&files).map_err(told)?;
    let mut slots = BTreeMap::new();
    for (name, bits) in &record.slots {
        let slot = u16::try_from(*bits).ok().and_then(Slot::from_bits);
        slots.insert(name.clone(), slot.ok_or_else(|| format!("{name} has no slot"))?);
    }
    Ok(language.with_slots(slots))
}
