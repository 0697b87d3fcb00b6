//! Slots: the unit in which keys are placed on shards.
//!
//! Each of three spaces has 4096 slots, and the directory has one. A key begins
//! with its slot, so a shard, which is a range of slots of one space, is one
//! contiguous range of keys.

use std::fmt;

use uuid::Uuid;

/// Slots of a space.
pub const SLOTS: u16 = 4096;

/// What the keys of a slot are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// An identity with its credentials, sessions, consents, grants and tokens.
    Home,
    /// Unique things that lead to a home.
    Index,
    /// Relation tuples.
    Graph,
    /// What every node holds whole; only slot 0 is used.
    Directory,
}

impl Space {
    /// All spaces, in key order.
    pub const ALL: [Self; 4] = [Self::Home, Self::Index, Self::Graph, Self::Directory];

    const fn bits(self) -> u16 {
        match self {
            Self::Home => 0,
            Self::Index => 1 << 12,
            Self::Graph => 2 << 12,
            Self::Directory => 3 << 12,
        }
    }

    /// The name in documents and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Index => "index",
            Self::Graph => "graph",
            Self::Directory => "directory",
        }
    }
}

/// A slot of a space: the first two bytes of every key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The directory's only slot.
    pub const DIRECTORY: Self = Self(Space::Directory.bits());

    /// The slot `number` (modulo [`SLOTS`]) of a space.
    pub const fn new(space: Space, number: u16) -> Self {
        Self(space.bits() | (number % SLOTS))
    }

    /// The slot with these two bytes, if there is one.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits >> 12 < 3 || bits == Self::DIRECTORY.0 { Some(Self(bits)) } else { None }
    }

    /// The two bytes at the beginning of a key.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Its space.
    pub const fn space(self) -> Space {
        match self.0 >> 12 {
            0 => Space::Home,
            1 => Space::Index,
            2 => Space::Graph,
            _ => Space::Directory,
        }
    }

    /// Its number within the space, below [`SLOTS`].
    pub const fn number(self) -> u16 {
        self.0 % SLOTS
    }

    /// The home slot of an id: the first 12 bits of a version 4 UUID, a frozen
    /// hash of any other.
    pub fn of_id(id: &Uuid) -> Self {
        let bytes = id.as_bytes();
        if id.get_version_num() == 4 {
            Self::new(Space::Home, u16::from_be_bytes([bytes[0], bytes[1]]) >> 4)
        } else {
            Self::of_name(Space::Home, bytes)
        }
    }

    /// The slot of any string of bytes: a frozen hash.
    pub fn of_name(space: Space, name: &[u8]) -> Self {
        let digest = blake3::derive_key("cardea slot of name v1", name);
        Self::new(space, u16::from_be_bytes([digest[0], digest[1]]) >> 4)
    }

    /// The slot of a digest that is already uniform: its first 12 bits.
    pub fn of_digest(space: Space, digest: &[u8; 32]) -> Self {
        Self::new(space, u16::from_be_bytes([digest[0], digest[1]]) >> 4)
    }

    /// A version 4 UUID in this slot, made from random bytes.
    pub fn mint(self, random: [u8; 16]) -> Uuid {
        let mut bytes = random;
        let head = self.number() << 4 | u16::from(random[1] & 0x0f);
        bytes[..2].copy_from_slice(&head.to_be_bytes());
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space().name(), self.number())
    }
}

/// A range of slots of one space; `first` and `last` included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    first: Slot,
    last: Slot,
}

impl SlotRange {
    /// The slots from `first` to `last`; `None` unless both are of one space
    /// and in order.
    pub fn new(first: Slot, last: Slot) -> Option<Self> {
        (first.space() == last.space() && first <= last).then_some(Self { first, last })
    }

    /// All slots of a space.
    pub const fn whole(space: Space) -> Self {
        let last = match space {
            Space::Directory => Slot::DIRECTORY,
            _ => Slot::new(space, SLOTS - 1),
        };
        Self { first: Slot::new(space, 0), last }
    }

    /// The `part`th of `parts` nearly equal ranges of a space (`part < parts <= SLOTS`).
    pub fn part(space: Space, part: u16, parts: u16) -> Option<Self> {
        if part >= parts || parts > SLOTS {
            return None;
        }
        let at = |n: u16| u32::from(n) * u32::from(SLOTS) / u32::from(parts);
        let slot = |n: u32| Slot::new(space, u16::try_from(n).unwrap_or(0));
        Self::new(slot(at(part)), slot(at(part + 1) - 1))
    }

    /// Its first slot.
    pub const fn first(self) -> Slot {
        self.first
    }

    /// Its last slot, included.
    pub const fn last(self) -> Slot {
        self.last
    }

    /// Its space.
    pub const fn space(self) -> Space {
        self.first.space()
    }

    /// Whether a slot lies in it.
    pub fn contains(self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }

    /// How many slots it has, at least one.
    pub const fn count(self) -> u16 {
        self.last.0 - self.first.0 + 1
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.space().name(), self.first.number(), self.last.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_of_an_id_is_its_first_twelve_bits() {
        let id: Uuid = "abc12345-0000-4000-8000-000000000000".parse().unwrap();
        assert_eq!(Slot::of_id(&id), Slot::new(Space::Home, 0xabc));
    }

    #[test]
    fn minted_id_lies_in_its_slot() {
        for number in [0, 1, 0x7ff, SLOTS - 1] {
            let slot = Slot::new(Space::Home, number);
            let id = slot.mint([0xff; 16]);
            assert_eq!(id.get_version_num(), 4);
            assert_eq!(Slot::of_id(&id), slot);
        }
    }

    #[test]
    fn slots_of_names_are_frozen() {
        let frozen = [("", 88), ("a", 2429), ("people", 512)];
        let numbers = frozen.map(|(n, _)| Slot::of_name(Space::Graph, n.as_bytes()).number());
        assert_eq!(numbers, frozen.map(|(_, n)| n));
    }

    #[test]
    fn parts_cover_a_space_without_overlap() {
        for parts in [1, 3, 4, 7, SLOTS] {
            let mut next = 0;
            for part in 0..parts {
                let range = SlotRange::part(Space::Home, part, parts).unwrap();
                assert_eq!(range.first().number(), next);
                next = range.last().number() + 1;
            }
            assert_eq!(next, SLOTS);
        }
        assert_eq!(SlotRange::part(Space::Home, 4, 4), None);
    }

    #[test]
    fn bits_of_no_space_are_refused() {
        assert_eq!(Slot::from_bits(0x4000), None);
        assert_eq!(Slot::from_bits(0x3001), None);
        assert_eq!(Slot::from_bits(0x3000), Some(Slot::DIRECTORY));
        assert_eq!(Slot::from_bits(0x2fff), Some(Slot::new(Space::Graph, 4095)));
    }
}
