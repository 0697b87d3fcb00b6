//! One direction between two places: what becomes of a frame that is sent there.
//! Pure: time and chance come from outside.
//!
//! Frames keep their order, as on a wire: a frame that would arrive before the one
//! sent ahead of it waits for that one. Only those that are drawn to come late are
//! overtaken. Bandwidth is a queue of its own in front of the delay, and what would
//! wait there longer than [`QUEUE_MAX`] is dropped, as a router drops it.

use std::time::Duration;

use crate::dice::Dice;

/// How long a frame may wait for bandwidth.
pub const QUEUE_MAX: Duration = Duration::from_millis(250);
/// How much later than its time a frame comes that is overtaken, beside half the delay.
const LATE: Duration = Duration::from_millis(1);

/// What a direction does to what is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// How long a frame takes.
    pub delay: Duration,
    /// How much longer it may take, drawn evenly.
    pub jitter: Duration,
    /// Frames lost, of ten thousand.
    pub lost: u32,
    /// Frames that arrive twice, of ten thousand.
    pub doubled: u32,
    /// Frames that are overtaken, of ten thousand.
    pub overtaken: u32,
    /// Bytes a second; none: no limit.
    pub bytes_per_s: Option<u64>,
    /// Whether nothing arrives.
    pub cut: bool,
}

/// Why a frame does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The link is cut.
    Cut,
    /// It was drawn to be lost.
    Lost,
    /// The queue for bandwidth is full.
    Crowded,
}

/// What the frames before left behind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    free_at: Duration,
    newest: Duration,
}

impl Line {
    /// When a frame of so many bytes that is sent `now` arrives, and when once more.
    /// Times count from any fixed moment.
    pub fn send(
        &mut self,
        link: &Link,
        now: Duration,
        bytes: usize,
        dice: &mut Dice,
    ) -> Result<(Duration, Option<Duration>), Dropped> {
        if link.cut {
            return Err(Dropped::Cut);
        }
        if is_drawn(link.lost, dice) {
            return Err(Dropped::Lost);
        }
        let mut left = now;
        if let Some(bytes_per_s) = link.bytes_per_s {
            let begins = self.free_at.max(now);
            if begins - now > QUEUE_MAX {
                return Err(Dropped::Crowded);
            }
            let nanos = bytes as u128 * 1_000_000_000 / u128::from(bytes_per_s.max(1));
            left = begins + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.free_at = left;
        }
        let extra = match u64::try_from(link.jitter.as_nanos()) {
            Ok(0) | Err(_) => Duration::ZERO,
            Ok(most) => Duration::from_nanos(dice.draw() % most),
        };
        let mut arrives = left + link.delay + extra;
        if is_drawn(link.overtaken, dice) {
            arrives += link.delay / 2 + LATE;
        } else {
            arrives = arrives.max(self.newest);
            self.newest = arrives;
        }
        let again = is_drawn(link.doubled, dice).then(|| arrives + LATE / 4);
        Ok((arrives, again))
    }
}

fn is_drawn(of_ten_thousand: u32, dice: &mut Dice) -> bool {
    of_ten_thousand > 0 && dice.draw() % 10_000 < u64::from(of_ten_thousand)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn arrivals(link: &Link, count: u32, every: Duration) -> Vec<Duration> {
        let (mut line, mut dice) = (Line::default(), Dice::new(7));
        let mut arrivals = Vec::new();
        for number in 0..count {
            if let Ok((first, second)) = line.send(link, every * number, 1500, &mut dice) {
                arrivals.push(first);
                arrivals.extend(second);
            }
        }
        arrivals
    }

    fn is_sorted(arrivals: &[Duration]) -> bool {
        arrivals.windows(2).all(|pair| pair[0] <= pair[1])
    }

    #[test]
    fn a_frame_takes_the_delay_and_at_most_the_jitter_more_and_keeps_its_place() {
        let link = Link { delay: 31 * MS, jitter: 5 * MS, ..Link::default() };
        let arrivals = arrivals(&link, 1000, MS / 10);
        assert_eq!(arrivals.len(), 1000);
        assert!(is_sorted(&arrivals));
        for (number, arrival) in (0..).zip(&arrivals) {
            let took = *arrival - MS / 10 * number;
            assert!(took >= 31 * MS && took < 36 * MS, "frame {number} took {took:?}");
        }
    }

    #[test]
    fn a_cut_link_passes_nothing() {
        let link = Link { cut: true, ..Link::default() };
        let sent = Line::default().send(&link, MS, 60, &mut Dice::new(1));
        assert_eq!(sent, Err(Dropped::Cut));
    }

    #[test]
    fn loss_and_doubling_are_as_often_as_asked() {
        let lossy = arrivals(&Link { lost: 1000, ..Link::default() }, 20_000, MS);
        assert!((17_700..18_300).contains(&lossy.len()), "{}", lossy.len());
        let doubling = arrivals(&Link { doubled: 500, ..Link::default() }, 20_000, MS);
        assert!((20_850..21_150).contains(&doubling.len()), "{}", doubling.len());
    }

    #[test]
    fn overtaken_frames_come_after_those_behind_them() {
        let link = Link { delay: 10 * MS, overtaken: 1000, ..Link::default() };
        let arrivals = arrivals(&link, 1000, MS);
        let overtaken = arrivals.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((60..150).contains(&overtaken), "{overtaken}");
    }

    #[test]
    fn bandwidth_bounds_the_rate_and_the_queue() {
        // 1.5 MB/s: a frame of 1500 bytes a millisecond; offered are ten times as many.
        let link = Link { bytes_per_s: Some(1_500_000), ..Link::default() };
        let arrivals = arrivals(&link, 10_000, MS / 10);
        let rate = arrivals.len() as f64 / arrivals.last().unwrap().as_secs_f64();
        assert!((990.0..1010.0).contains(&rate), "{rate} frames a second");
        assert!(*arrivals.last().unwrap() <= 1000 * MS + QUEUE_MAX + 2 * MS);
        assert!(is_sorted(&arrivals));
    }
}
