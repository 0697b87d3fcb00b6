//! Changing the language: versions in the directory, one of them in force.
//!
//! A version is one row, and which one is in force another, small one. Both are
//! written in one transaction. A version that would strand tuples, because it no
//! longer declares a namespace or relation that they name, is refused unless forced. That
//! is judged by the version that it comes behind, also where somebody else puts one in
//! force meanwhile; tuples written meanwhile may be stranded all the same, as undeclared
//! namespaces may be named at any time.

use std::collections::{BTreeMap, BTreeSet};

use cardea_storage::{
    Consistency, Slot, Snaptoken, StoreError, Tenant, Timestamp,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};

use crate::{
    Service,
    language::{Declared, Language},
    model::{Subject, SubjectSet, Tuple},
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
/// How often it is looked for anew because another version came into force meanwhile.
const LOOKS_MAX: u32 = 8;

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
    /// See [`StoreError`]; [`StoreError::BadToken`] for a token of another cluster or of the
    /// future.
    pub async fn get_language(
        &self,
        tenant: Tenant,
        consistency: Consistency,
    ) -> Result<Answered<LanguageVersion>, StoreError> {
        self.vet(tenant, &consistency).await?;
        let view = self.store.view(consistency);
        let head = view.get::<LanguageHeads>(&LanguageHeadKey(tenant)).await?;
        let version = head.map_or(0, |head| head.record.version);
        let key = LanguageVersionKey { tenant, version };
        let record = match view.get::<LanguageVersions>(&key).await? {
            Some(entry) => entry.record,
            None if version == 0 => LanguageVersionRecord::default(),
            None => return Err(StoreError::unavailable("the language changed while it was read")),
        };
        Ok(Answered { value: shown(version, record), snaptoken: view.seen() })
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
        let names: Vec<String> = language.namespaces().map(str::to_owned).collect();
        for _ in 0..LOOKS_MAX {
            let mut behind = None;
            if !new.force {
                let (held, _) = self.language(tenant, &Consistency::Strong).await?;
                let stranded = self.stranded(tenant, &held.language, &language).await?;
                if !stranded.is_empty() {
                    return Err(LanguageRejection::Strands(stranded));
                }
                behind = Some(held.version);
            }
            let (version, snaptoken) = self.put_behind(tenant, &new, &names, behind).await?;
            if let Some(version) = version {
                return Ok((version, snaptoken));
            }
        }
        Err(StoreError::Contended { attempts: LOOKS_MAX }.into())
    }

    /// Puts a language in force, if the version that it was judged by still is.
    async fn put_behind(
        &self,
        tenant: Tenant,
        new: &NewLanguage,
        names: &[String],
        behind: Option<u64>,
    ) -> Result<(Option<u64>, Snaptoken), LanguageRejection> {
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
                    return Ok(Some(version));
                }
                if behind.is_some_and(|behind| behind != version) {
                    return Ok(None);
                }
                let next = version + 1;
                t.put::<LanguageVersions>(&key(next), &record, None).await?;
                t.put::<LanguageHeads>(&head_key, &LanguageHeadRecord { version: next }, None)
                    .await?;
                if let Some(outdated) = next.checked_sub(VERSIONS_KEPT).filter(|v| *v > 0) {
                    t.delete::<LanguageVersions>(&key(outdated)).await?;
                }
                Ok(Some(next))
            })
            .await?;
        Ok((done.value, done.snaptoken))
    }

    /// What tuples name and a language would not declare any more.
    async fn stranded(
        &self,
        tenant: Tenant,
        old: &Language,
        new: &Language,
    ) -> Result<Vec<String>, LanguageRejection> {
        let mut stranded = BTreeSet::new();
        for namespace in old.namespaces() {
            let place = Place { tenant, slot: old.slot(namespace) };
            if new.has(namespace) {
                let relations = self.relations_gone(place, old, new, namespace).await?;
                let shown = relations.iter().map(|relation| format!("{namespace}#{relation}"));
                stranded.extend(shown);
            } else {
                let as_object = self.any(place.namespace(Some(namespace))).await?.is_some();
                if as_object || !self.named(tenant, old, namespace, |_| true, 1).await?.is_empty() {
                    stranded.insert(namespace.to_owned());
                }
            }
            if stranded.len() >= STRANDED_MAX {
                break;
            }
        }
        Ok(stranded.into_iter().take(STRANDED_MAX).collect())
    }

    /// Relations of a namespace that tuples name, and that meant something and would not
    /// any more. Where a namespace declares none, each means what tuples say.
    async fn relations_gone(
        &self,
        place: Place,
        old: &Language,
        new: &Language,
        namespace: &str,
    ) -> Result<BTreeSet<String>, StoreError> {
        let means = |language: &Language, relation: &str| {
            language.declared(namespace, relation) != Declared::Undeclared
        };
        let gone =
            |relation: &str| !relation.is_empty() && means(old, relation) && !means(new, relation);
        let declared: Vec<&str> = old.names(namespace).collect();
        let mut found = BTreeSet::new();
        if declared.is_empty() {
            if new.names(namespace).next().is_none() {
                return Ok(found);
            }
            let mut range = place.relations(namespace);
            while let Some(tuple) = self.any(range.clone()).await? {
                range.start = place.relation(namespace, &tuple.relation).end;
                found.extend(Some(tuple.relation).filter(|relation| gone(relation)));
                if found.len() >= STRANDED_MAX {
                    return Ok(found);
                }
            }
        } else {
            let declared: Vec<&str> = declared.into_iter().filter(|name| gone(name)).collect();
            if declared.is_empty() {
                return Ok(found);
            }
            for name in declared {
                if self.any(place.relation(namespace, name)).await?.is_some() {
                    found.insert(name.to_owned());
                }
            }
        }
        found.extend(self.named(place.tenant, old, namespace, gone, STRANDED_MAX).await?);
        Ok(found)
    }

    async fn any(&self, range: cardea_storage::KeyRange) -> Result<Option<Tuple>, StoreError> {
        let scan = Scan { range, limit: 1, order: Order::Forward };
        let mut request = ReadRequest::new(Consistency::Strong);
        request.reads.push(Read::Scan(scan));
        let rows = self.store.read(request).await?.results.into_iter().next().unwrap_or_default();
        Ok(rows.rows.first().and_then(read_tuple))
    }

    /// Relations of a namespace that subject sets name and that are meant, about `most` of
    /// them at most.
    async fn named(
        &self,
        tenant: Tenant,
        old: &Language,
        namespace: &str,
        meant: impl Fn(&str) -> bool,
        most: usize,
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut found = BTreeSet::new();
        for slot in old.slots() {
            let mut range = Place { tenant, slot }.naming(namespace, None);
            loop {
                let scan = Scan { range: range.clone(), limit: PAGE, order: Order::Forward };
                let mut request = ReadRequest::new(Consistency::Strong);
                request.reads.push(Read::Scan(scan));
                let answer = self.store.read(request).await?;
                let Some(rows) = answer.results.into_iter().next() else { break };
                let named = rows.rows.iter().filter_map(|row| match read_tuple(row)?.subject {
                    Subject::Set(SubjectSet { relation, .. }) => Some(relation),
                    Subject::Id(_) => None,
                });
                found.extend(named.filter(|relation| meant(relation)));
                if found.len() >= most {
                    return Ok(found);
                }
                match rows.rows.last().filter(|_| rows.more) {
                    Some(last) => range.start = last.key.successor(),
                    None => break,
                }
            }
        }
        Ok(found)
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
