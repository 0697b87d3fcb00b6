//! Names that may answer a look-up, one after the other in their order.

use std::sync::Arc;

use super::{
    kept::{Kept, Taken},
    stream::Merge,
};
use crate::ReadRejection;

/// See the [module](self).
pub(super) enum Candidates<'g> {
    /// From the rows.
    Merged(Merge<'g>),
    /// All that were collected.
    Kept {
        taken: Taken,
        /// Which is next.
        at: usize,
    },
}

impl Candidates<'_> {
    /// Those that were collected, behind a name.
    pub(super) fn kept(taken: Taken, after: Option<&str>) -> Self {
        let names = taken.kept.names();
        let at = after.map_or(0, |after| names.partition_point(|(name, _)| &**name <= after));
        Self::Kept { taken, at }
    }

    /// The next, and whether it surely answers.
    pub(super) async fn next(&mut self) -> Result<Option<(String, bool)>, ReadRejection> {
        match self {
            Self::Merged(merge) => merge.next().await,
            Self::Kept { taken, at } => {
                let Some((name, certain)) = taken.kept.names().get(*at) else { return Ok(None) };
                *at += 1;
                Ok(Some((name.to_string(), *certain && taken.trusted)))
            }
        }
    }

    /// What may be kept for the pages to come.
    pub(super) fn into_kept(self) -> Option<Arc<Kept>> {
        match self {
            Self::Merged(_) => None,
            Self::Kept { taken, .. } => Some(taken.kept),
        }
    }
}
