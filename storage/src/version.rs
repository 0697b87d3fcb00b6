//! The cluster version: what every node of a cluster understands.
//!
//! A node that meets a field or a row which it does not know would drop the one
//! and misread the other, and a command that it does not know would part its
//! replicas from the rest. So whoever writes something new asks first whether the
//! cluster's version is that far ([`Store::speaks`](crate::Store::speaks)). The
//! version is raised by a committed transaction once every node says that its
//! binary knows it, and never lowered; a node that is too old for it is refused.
//!
//! A new feature gets the next version and a line in the register below; both
//! stay for ever. What reads need not ask: a row that is there may be read.
//!
//! Index rows are the exception that proves it: an [index](crate::index) declares the
//! version that brought it, its rows are written with their records at once, and once
//! the cluster is at that version what older nodes left of it is put right.

/// The newest cluster version that this code understands.
pub const VERSION_MAX: u32 = Feature::REGISTER[Feature::REGISTER.len() - 1].1;

/// Something that older nodes do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Everything that the first version wrote.
    First,
    /// Entries that carry several commands; see [`txn::pack`](crate::txn::pack).
    Packs,
    /// Rows of the directory that say which indexes are whole. Those of earlier
    /// versions are whole without one.
    Indexes,
}

impl Feature {
    /// Every feature, with the version that brought it, in order.
    pub const REGISTER: &'static [(Self, u32)] =
        &[(Self::First, 1), (Self::Packs, 2), (Self::Indexes, 3)];

    /// The cluster version from which on it may be written.
    pub fn since(self) -> u32 {
        let found = Self::REGISTER.iter().find(|(feature, _)| *feature == self);
        found.map_or(u32::MAX, |(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_features_are_frozen() {
        assert_eq!(Feature::First.since(), 1);
        assert_eq!(Feature::Packs.since(), 2);
        assert_eq!(Feature::Indexes.since(), 3);
        assert_eq!(VERSION_MAX, 3);
        assert!(Feature::REGISTER.is_sorted_by_key(|(_, since)| *since));
    }
}
