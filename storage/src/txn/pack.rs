//! Packs: several commands that go through the log as one entry.
//!
//! Agreeing on an entry costs every node the same whatever it carries. So what is
//! proposed while other things are under way may go as one, from the cluster version
//! on that knows packs ([`Feature::Packs`]).
//!
//! A pack is its commands, one after another, and nothing more: each has its own
//! stamp, which moves log time as that of an entry would; its own receipt, checks and
//! outcome, so that one is refused and the next is not; each sees what those before
//! it wrote, as the entries of a batch do; and the digest chains over each. All
//! replicas apply a pack whole or not at all, for its rows are in one batch with the
//! position behind it.
//!
//! *Each command has a revision of its own*, or two writes of one key would bear the
//! same, and a check made from the first would take the second for it. A revision is
//! the group's base and the log index; so each command of a pack but the first raises
//! the base, which is part of the state, by one. Revisions stay dense and in the order
//! of the log, and a log without packs has those that it always had. What it ends is
//! only that the index of a revision can be computed: whoever waits for a revision
//! looks at how far the state has come.
//!
//! A pack within a pack is [rejected](Outcome::Rejected).

use bytes::Bytes;
use prost::Message;

use super::{
    Command, Outcome,
    command::{Action, Pack},
};
use crate::version::Feature;

/// Commands that go into one pack, at most.
pub const COMMANDS_MAX: usize = 64;
/// Bytes of commands that go into one pack, at most. Logs keep a number of entries for
/// followers that lag, so an entry must not be large.
pub const BYTES_MAX: usize = 64 << 10;

/// The answers to a pack, on their way from the machine to whoever proposed it.
#[derive(Clone, PartialEq, Message)]
struct Answers {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    answers: Vec<Bytes>,
}

/// The command that does what these encoded commands do.
pub fn pack(commands: &[Bytes]) -> Bytes {
    let action = Action::Pack(Pack { commands: commands.to_vec() });
    // Its commands have stamps of their own.
    let command = Command { stamp: 0, version: Feature::Packs.since(), action: Some(action) };
    command.encode_to_vec().into()
}

/// The bytes of the answers to a pack.
pub fn answers(outcomes: &[Outcome]) -> Bytes {
    Answers { answers: outcomes.iter().map(Outcome::encode).collect() }.encode_to_vec().into()
}

/// The answers to each command out of [those to the pack](answers); none if they are
/// malformed.
pub fn split(answers: &Bytes) -> Vec<Bytes> {
    Answers::decode(answers.clone()).map(|all| all.answers).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_pack_are_frozen() {
        let packed = pack(&[Bytes::from_static(b"a"), Bytes::from_static(b"bc")]);
        let hex: String = packed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "10026a070a01610a026263");
    }

    #[test]
    fn answers_are_split_as_they_were_given() {
        let outcomes = [Outcome::Aborted, Outcome::Conflict { check: 3 }, Outcome::Moved];
        let each: Vec<Bytes> = outcomes.iter().map(Outcome::encode).collect();
        assert_eq!(split(&answers(&outcomes)), each);
        assert!(split(&Bytes::from_static(b"\xff")).is_empty());
    }
}
