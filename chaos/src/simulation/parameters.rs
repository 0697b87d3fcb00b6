//! What a world is like: every number is drawn from the seed, and every kind of
//! harm is in or out by the toss of a coin, as is every kind of work (swarm
//! testing). The ranges lean on those of TigerBeetle's simulator.

use crate::dice::Dice;

/// The kinds of harm, each in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Harms {
    /// Links that carry nothing, in one direction or both.
    pub partitions: bool,
    /// Machines cut off for about as long as an election takes.
    pub blinks: bool,
    /// Links that are slow for a while.
    pub clogs: bool,
    /// Connections that break.
    pub resets: bool,
    /// Processes killed, and machines that lose power.
    pub crashes: bool,
    /// Crashes at a drawn write of the disk.
    pub crashes_at_writes: bool,
    /// Processes that stand still and go on.
    pub pauses: bool,
    /// Disks that are slow for a while.
    pub slow_disks: bool,
    /// Wall clocks that jump; those of a majority are right.
    pub clock_jumps: bool,
    /// Leaderships handed over.
    pub transfers: bool,
    /// Nodes drained, and nodes that join.
    pub membership: bool,
    /// A machine lost with its disk, and replaced.
    pub replacement: bool,
    /// Backups, made under load.
    pub backups: bool,
}

/// How often each kind of work is done, in proportion; 0 for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Registers.
    pub registers: u64,
    /// Identifiers, over two shards.
    pub identifiers: u64,
    /// Counts, at every consistency.
    pub counts: u64,
    /// Pairs, over two shards.
    pub pairs: u64,
    /// Sessions.
    pub sessions: u64,
    /// Rows that expire, with an index row.
    pub loans: u64,
    /// Purses, over two shards.
    pub purses: u64,
    /// Books, with an index that an upgrade may bring.
    pub books: u64,
}

/// The numbers of a world.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Machines at first.
    pub nodes: usize,
    /// Shards of the home space.
    pub home_shards: u16,
    /// Least one-way delay of a link, in milliseconds.
    pub delay_ms_min: u64,
    /// What a delay exceeds it by, on average.
    pub delay_ms_mean: u64,
    /// Of a hundred segments, those that are sent again after 200 ms or more.
    pub loss_percent: usize,
    /// Of a hundred proposals, those that come again later.
    pub replay_percent: usize,
    /// Of a hundred answers to proposals, those that are lost.
    pub unheard_percent: usize,
    /// Longest synced write of a healthy disk, in milliseconds.
    pub sync_ms_max: u64,
    /// Entries after which a snapshot is taken.
    pub snapshot_entries: u64,
    /// Entries kept behind one.
    pub entries_kept: u64,
    /// Bytes of a log's tail in memory.
    pub tail_bytes_max: usize,
    /// Entries that a tablet may leave unflushed.
    pub flush_entries_max: u64,
    /// Clients at once.
    pub clients: usize,
    /// Cells of each kind that they share.
    pub cells: u64,
    /// Mean pause of a client between two requests, in milliseconds.
    pub think_ms_mean: u64,
    /// Of a hundred requests, those that look at what was just acknowledged.
    pub chase_percent: usize,
    /// Of a hundred of those, the ones that ask the machine that had the last harm.
    pub haunt_percent: usize,
    /// Of a hundred requests for a book, those for the one that was asked for last.
    pub again_and_again_percent: usize,
    /// Within how many milliseconds the machines get the newest binary, one after the
    /// other; 0 if they have it from the beginning.
    pub upgrade_ms: u64,
    /// Longest life that a row is given, in milliseconds.
    pub loan_ms_max: u64,
    /// Mean time between two harms, in milliseconds.
    pub harm_ms_mean: u64,
    /// Of a hundred harms, those that come right behind the one before.
    pub burst_percent: usize,
    /// Of a hundred harms, those that come over the machine that had the one before.
    pub again_percent: usize,
    /// Of a hundred crashes, those that cut power to all machines at once.
    pub all_percent: usize,
    /// What clients do.
    pub mix: Mix,
    /// What may happen.
    pub harms: Harms,
    /// Heartbeats that tell nothing new after which a replica rests; 0: never.
    pub rest_beats: u64,
    /// Bytes of commands kept behind a snapshot.
    pub bytes_kept: u64,
}

impl Parameters {
    /// Draws a world.
    pub fn drawn(dice: &mut Dice) -> Self {
        let mut up_to = |least: u64, most: u64| least + dice.draw() % (most - least + 1);
        Self {
            nodes: if up_to(0, 99) < 70 { 3 } else { up_to(4, 5) as usize },
            home_shards: up_to(1, 3) as u16,
            delay_ms_min: up_to(0, 10),
            delay_ms_mean: up_to(0, 25),
            loss_percent: if up_to(0, 1) == 0 { 0 } else { up_to(1, 10) as usize },
            replay_percent: if up_to(0, 1) == 0 { 0 } else { up_to(1, 50) as usize },
            unheard_percent: if up_to(0, 1) == 0 { 0 } else { up_to(1, 10) as usize },
            sync_ms_max: up_to(0, 20),
            snapshot_entries: if up_to(0, 1) == 0 { up_to(3, 20) } else { up_to(20, 200) },
            entries_kept: if up_to(0, 1) == 0 { 0 } else { up_to(1, 50) },
            tail_bytes_max: up_to(0, 4_096) as usize,
            flush_entries_max: if up_to(0, 1) == 0 { up_to(1, 20) } else { up_to(20, 2_000) },
            clients: up_to(3, 12) as usize,
            cells: up_to(1, 4),
            think_ms_mean: up_to(5, 150),
            chase_percent: up_to(0, 50) as usize,
            haunt_percent: if up_to(0, 1) == 0 { 0 } else { up_to(20, 90) as usize },
            again_and_again_percent: if up_to(0, 1) == 0 { 0 } else { up_to(50, 95) as usize },
            upgrade_ms: if up_to(0, 1) == 0 { 0 } else { up_to(500, 6_000) },
            loan_ms_max: up_to(500, 8_000),
            harm_ms_mean: up_to(100, 1_500),
            burst_percent: if up_to(0, 1) == 0 { 0 } else { up_to(10, 60) as usize },
            again_percent: if up_to(0, 1) == 0 { 0 } else { up_to(20, 90) as usize },
            all_percent: up_to(0, 20) as usize,
            mix: Mix::drawn(&mut up_to),
            harms: Harms {
                partitions: up_to(0, 99) < 70,
                blinks: up_to(0, 99) < 50,
                clogs: up_to(0, 99) < 50,
                resets: up_to(0, 99) < 50,
                crashes: up_to(0, 99) < 70,
                crashes_at_writes: up_to(0, 99) < 50,
                pauses: up_to(0, 99) < 50,
                slow_disks: up_to(0, 99) < 40,
                clock_jumps: up_to(0, 99) < 40,
                transfers: up_to(0, 99) < 50,
                membership: up_to(0, 99) < 40,
                replacement: up_to(0, 99) < 30,
                backups: up_to(0, 99) < 40,
            },
            rest_beats: [0, 1, 3, 10][up_to(0, 3) as usize],
            bytes_kept: if up_to(0, 1) == 0 { 1 << 20 } else { up_to(0, 4_096) },
        }
    }
}

impl Mix {
    fn drawn(up_to: &mut impl FnMut(u64, u64) -> u64) -> Self {
        // Where everything is done, little is done of each: in most worlds a few kinds
        // have the clients for themselves, and get into each other's way.
        let left_out = [30, 60, 80][up_to(0, 2) as usize];
        let mut share = || if up_to(0, 99) < left_out { 0 } else { up_to(1, 10) };
        Self {
            // Something is always done.
            registers: share().max(1),
            identifiers: share(),
            counts: share(),
            pairs: share(),
            sessions: share(),
            loans: share(),
            purses: share(),
            books: share(),
        }
    }

    /// The kinds with their shares, in a fixed order.
    pub fn shares(&self) -> [u64; 8] {
        let Self { registers, identifiers, counts, pairs, sessions, loans, purses, books } = *self;
        [registers, identifiers, counts, pairs, sessions, loans, purses, books]
    }
}
