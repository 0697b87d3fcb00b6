//! Identities: once acknowledged they are read by every node, with at least the
//! last acknowledged version, never an older one than was read before, until an
//! acknowledged deletion, and then never again.
//!
//! The versions of a story come from one writer, one after the other.

use crate::history::{Span, Violation, Write};

/// What a strong read saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The identity with this version; 0 before the first write.
    Version(u64),
    /// 404.
    Absent,
}

/// A strong read that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The node that answered.
    pub node: usize,
    /// When.
    pub span: Span,
    /// What it saw.
    pub seen: Seen,
}

/// An identity as its clients saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityStory {
    /// Its id, and the field if it has several writers.
    pub id: String,
    /// The acknowledged creation.
    pub created: Span,
    /// Writes of versions.
    pub writes: Vec<(u64, Write)>,
    /// Attempts to delete it.
    pub deletions: Vec<Write>,
    /// What was read.
    pub reads: Vec<Read>,
}

/// Every promise that this story breaks.
pub fn check(story: &IdentityStory) -> Vec<Violation> {
    let mut violations = Vec::new();
    for read in &story.reads {
        let mut say = |what: String| {
            violations.push(Violation(format!(
                "identity {}, node {}, {}: {what}",
                story.id,
                read.node + 1,
                read.span
            )));
        };
        let earlier = || story.reads.iter().filter(|other| other.span.ended < read.span.began);
        match read.seen {
            Seen::Absent => {
                if read.span.began > story.created.ended
                    && !story.deletions.iter().any(|d| d.is_visible_by(read.span.ended))
                {
                    say("absent although nobody had deleted it: an acknowledged write is lost"
                        .to_owned());
                }
            }
            Seen::Version(version) => {
                if story.deletions.iter().any(|d| d.was_done_before(read.span.began)) {
                    say("read after its deletion was acknowledged".to_owned());
                }
                if earlier().any(|other| {
                    other.seen == Seen::Absent && other.span.began > story.created.ended
                }) {
                    say("read again after it had been absent".to_owned());
                }
                let done = story.writes.iter().filter(|(_, w)| w.was_done_before(read.span.began));
                if let Some((acknowledged, _)) = done.max_by_key(|(version, _)| *version)
                    && *acknowledged > version
                {
                    say(format!(
                        "version {version} was read, {acknowledged} had been acknowledged: a write is lost"
                    ));
                }
                let newest = earlier().filter_map(|other| match other.seen {
                    Seen::Version(version) => Some(version),
                    Seen::Absent => None,
                });
                if let Some(newest) = newest.max()
                    && newest > version
                {
                    say(format!("version {version} was read after version {newest}"));
                }
                let is_known = version == 0
                    || story.writes.iter().any(|(written, w)| {
                        *written == version && w.is_visible_by(read.span.ended)
                    });
                if !is_known {
                    say(format!(
                        "version {version} was read, which nobody wrote or which was refused"
                    ));
                }
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Fate, Moment};

    fn span(began: u64, ended: u64) -> Span {
        Span { began: Moment(began), ended: Moment(ended) }
    }

    fn write(began: u64, ended: u64, fate: Fate) -> Write {
        Write { span: span(began, ended), fate }
    }

    fn story(reads: &[(u64, u64, Seen)]) -> IdentityStory {
        IdentityStory {
            id: "i".to_owned(),
            created: span(0, 10),
            writes: vec![
                (1, write(20, 30, Fate::Done)),
                (2, write(40, 50, Fate::Unknown)),
                (3, write(60, 70, Fate::NotDone)),
                (4, write(80, 90, Fate::Done)),
            ],
            deletions: vec![write(200, 210, Fate::Done)],
            reads: reads
                .iter()
                .enumerate()
                .map(|(node, (b, e, seen))| Read { node, span: span(*b, *e), seen: *seen })
                .collect(),
        }
    }

    use Seen::{Absent, Version};

    #[test]
    fn good_stories_pass() {
        let good: [&[(u64, u64, Seen)]; 6] = [
            &[(11, 12, Version(0)), (31, 32, Version(1)), (95, 99, Version(4))],
            &[(25, 27, Version(0))],
            // The unknown write takes effect late, or never.
            &[(51, 52, Version(1)), (53, 54, Version(2))],
            &[(85, 87, Version(4)), (100, 110, Version(4))],
            &[(205, 208, Version(4)), (220, 230, Absent)],
            &[(5, 8, Absent), (11, 12, Version(0))],
        ];
        for reads in good {
            assert_eq!(check(&story(reads)), [], "{reads:?}");
        }
    }

    #[test]
    fn every_kind_of_loss_is_found() {
        let bad: [&[(u64, u64, Seen)]; 7] = [
            // A lost write.
            &[(31, 40, Version(0))],
            // A lost identity.
            &[(11, 12, Absent)],
            // Back in time, though the write was unknown.
            &[(51, 52, Version(2)), (53, 54, Version(1))],
            // A refused write that took effect.
            &[(71, 75, Version(3))],
            // A write from the future.
            &[(70, 75, Version(4))],
            // Back from the dead.
            &[(220, 230, Version(4))],
            &[(202, 203, Absent), (204, 206, Version(4))],
        ];
        for reads in bad {
            assert_eq!(check(&story(reads)).len(), 1, "{reads:?}");
        }
    }
}
