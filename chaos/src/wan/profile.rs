//! Profiles: how far regions are from each other.

use std::{fmt, str::FromStr, time::Duration};

use super::link::Link;

/// Between two machines of one region, one way.
const LOCAL: Duration = Duration::from_micros(60);

/// Round trips between regions in milliseconds, as one meets them between the
/// data centres of large providers; the first three are those of [`Profile::Three`].
const ROUND_TRIPS: [[u64; 5]; 5] = [
    [0, 62, 75, 150, 115],
    [62, 0, 130, 98, 178],
    [75, 130, 0, 205, 180],
    [150, 98, 205, 0, 256],
    [115, 178, 180, 256, 0],
];

/// How far apart regions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Three regions in name only: one local network.
    Lan,
    /// Three regions at 62, 75 and 130 ms round trip.
    Three,
    /// Five regions at 62 to 256 ms.
    Five,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lan, Self::Three, Self::Five];

    /// How many regions.
    pub fn regions(self) -> usize {
        match self {
            Profile::Lan | Profile::Three => 3,
            Profile::Five => 5,
        }
    }

    /// What is between a machine of one region and one of another, without light's
    /// own limits: what is measured on top is the system's.
    pub fn round_trip(self, from: usize, to: usize) -> Duration {
        2 * self.delay(from, to)
    }

    /// The link from a region to another, or within one.
    pub fn link(self, from: usize, to: usize) -> Link {
        Link { delay: self.delay(from, to), ..Link::default() }
    }

    fn delay(self, from: usize, to: usize) -> Duration {
        let round_trip = match self {
            Profile::Lan => 0,
            Profile::Three | Profile::Five => {
                ROUND_TRIPS.get(from).and_then(|row| row.get(to)).copied().unwrap_or_default()
            }
        };
        LOCAL.max(Duration::from_millis(round_trip) / 2)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Lan => "lan",
            Profile::Three => "three",
            Profile::Five => "five",
        })
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|profile| profile.to_string() == name);
        found.ok_or_else(|| format!("`{name}` is no profile: lan, three or five"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_same_both_ways_and_named() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
            for from in 0..profile.regions() {
                for to in 0..profile.regions() {
                    assert_eq!(profile.round_trip(from, to), profile.round_trip(to, from));
                    assert!(profile.round_trip(from, to) >= 2 * LOCAL);
                }
            }
        }
        assert_eq!(Profile::Three.round_trip(1, 2), Duration::from_millis(130));
        assert!("moon".parse::<Profile>().is_err());
    }
}
