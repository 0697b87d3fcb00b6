//! Everything that a look-up finds, given part by part while it is looked for.
//!
//! 1. Where this node has a replica, a view in which no transaction is half done is
//!    pinned, and everything is of that instant: the way there is looked for once, and
//!    nothing twice.
//! 2. Elsewhere, and where something lies in another shard, it goes page by page, behind
//!    the last name that was given. Each part then is of an instant of its own, which it
//!    names.
//!
//! Whoever takes the parts sets the pace: while one is not taken, nothing is looked for.

use async_trait::async_trait;
use cardea_storage::{Consistency, Tenant};

use super::{Lookup, NamesPage, Position, kept::List, let_others};
use crate::{ReadRejection, Service, graph::Graph, service::Answered};

/// Names in one part, at most.
pub const NAMES_AT_ONCE: usize = 1_000;
/// Candidates that are looked at for one part, unless it has no name yet.
const LOOKED_AT_MAX: usize = 1_000;

/// Takes what is found.
#[async_trait]
pub trait Taker: Send {
    /// Takes the next names in their order; none only where there are none at all. Gives
    /// whether more are wanted.
    async fn take(&mut self, names: Answered<Vec<String>>) -> bool;
}

/// How giving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Everything was given.
    All,
    /// No more was wanted.
    Enough,
}

/// Parts on their way.
struct Parts<'a> {
    taker: &'a mut dyn Taker,
    /// Whether any was given.
    any: bool,
    /// Behind which name it goes on.
    after: Option<String>,
}

impl Parts<'_> {
    async fn give(&mut self, names: Answered<Vec<String>>) -> bool {
        if let Some(last) = names.value.last() {
            self.after = Some(last.clone());
        }
        self.any = true;
        self.taker.take(names).await
    }
}

impl Service {
    /// Gives everything that a look-up finds.
    pub(super) async fn give_names(
        &self,
        tenant: Tenant,
        lookup: &Lookup<'_>,
        consistency: Consistency,
        taker: &mut dyn Taker,
    ) -> Result<Given, ReadRejection> {
        let mut parts = Parts { taker, any: false, after: None };
        if let Some(Answered { value: graph, mut snaptoken }) =
            self.still(tenant, &consistency).await?
        {
            snaptoken.merge(&graph.snaptoken());
            let at = |names| Answered { value: names, snaptoken: snaptoken.clone() };
            let given = lookup.give(&graph, &mut parts, at).await;
            if !graph.met_lock() {
                return given;
            }
        }
        let list = List { tenant, name: lookup.name() };
        let mut begun = None;
        loop {
            let behind = parts
                .after
                .clone()
                .map(|after| Position { after, begun: begun.clone().unwrap_or_default() });
            let NamesPage { names, next } =
                self.names_behind(&list, lookup, behind, NAMES_AT_ONCE, &consistency).await?;
            if (!names.value.is_empty() || next.is_none() && !parts.any) && !parts.give(names).await
            {
                return Ok(Given::Enough);
            }
            let Some(next) = next else { return Ok(Given::All) };
            begun = Some(next.begun);
            parts.after = Some(next.after);
        }
    }
}

impl Lookup<'_> {
    async fn give(
        &self,
        graph: &Graph,
        parts: &mut Parts<'_>,
        at: impl Fn(Vec<String>) -> Answered<Vec<String>>,
    ) -> Result<Given, ReadRejection> {
        self.vet(graph).await?;
        let mut candidates = self.candidates(graph, None, NAMES_AT_ONCE).await?;
        let (mut names, mut looked_at, mut engine) = (Vec::new(), 0, None);
        while let Some((name, certain)) = candidates.next().await? {
            looked_at += 1;
            let_others(certain, looked_at).await;
            if certain || self.holds_of(graph, &mut engine, &name).await? {
                names.push(name);
            }
            let enough = names.len() == NAMES_AT_ONCE || looked_at >= LOOKED_AT_MAX;
            if enough && !names.is_empty() {
                looked_at = 0;
                if !parts.give(at(std::mem::take(&mut names))).await {
                    return Ok(Given::Enough);
                }
            }
        }
        if (!names.is_empty() || !parts.any) && !parts.give(at(names)).await {
            return Ok(Given::Enough);
        }
        Ok(Given::All)
    }
}
