//! A switch in user space: frames come from TAP devices, wait as their link says,
//! and go out of another. One thread reads each port, one delivers.
//!
//! Places are known by their MAC address, which [`mac`] makes of the port; there
//! is no learning and no flooding, neighbours are entered by hand. Links are
//! changed while frames fly: a cut holds for what is sent after it, and what was
//! on the wire arrives.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::link::{Dropped, Line, Link};
use crate::dice::Dice;

/// Room for the largest frame.
const FRAME_MAX: usize = 2048;
/// What threads of the switch are worth to the scheduler: nobody waits longer than
/// their link says because machines compute.
const NICENESS: i32 = -10;

/// A port's MAC address.
pub fn mac(port: usize) -> [u8; 6] {
    let low = u8::try_from(port).unwrap_or(u8::MAX);
    [0x02, 0xca, 0x4d, 0xea, 0, low]
}

fn port_of(mac: &[u8]) -> Option<usize> {
    (mac.get(..5)? == &self::mac(0)[..5]).then(|| mac.get(5).map(|low| usize::from(*low)))?
}

/// Frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// That arrived.
    pub passed: u64,
    /// That met a cut.
    pub cut: u64,
    /// That were lost by chance or for want of bandwidth.
    pub lost: u64,
}

/// A frame on its way; ordered by when it arrives, then by when it was sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    due: Duration,
    number: u64,
    port: usize,
    frame: Vec<u8>,
}

#[derive(Default)]
struct Pair {
    link: Link,
    line: Line,
    count: Count,
}

struct Table {
    pairs: BTreeMap<(usize, usize), Pair>,
    dice: Dice,
}

#[derive(Default)]
struct Sky {
    flights: BinaryHeap<Reverse<Flight>>,
    sent: u64,
}

struct Shared {
    began: Instant,
    ports: Vec<SyncDevice>,
    table: Mutex<Table>,
    sky: Mutex<Sky>,
    earlier: Condvar,
    closed: AtomicBool,
}

/// The switch. It works until it is closed.
#[derive(Clone)]
pub struct Switch(Arc<Shared>);

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Switch({} ports)", self.0.ports.len())
    }
}

impl Switch {
    /// Makes TAP devices of these names in the namespace of the calling thread, a
    /// port each, with the [`mac`] of their place. Devices may be moved to other
    /// namespaces; what they send comes here all the same.
    pub fn open(names: &[String], seed: u64) -> io::Result<Self> {
        let open = |(port, name): (usize, &String)| {
            DeviceBuilder::new()
                .name(name)
                .layer(Layer::L2)
                .mac_addr(mac(port))
                .inherit_enable_state()
                .build_sync()
        };
        let ports = names.iter().enumerate().map(open).collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            began: Instant::now(),
            ports,
            table: Mutex::new(Table { pairs: BTreeMap::new(), dice: Dice::new(seed) }),
            sky: Mutex::default(),
            earlier: Condvar::new(),
            closed: AtomicBool::new(false),
        });
        for port in 0..names.len() {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("port-{port}")).spawn(move || {
                shared.read(port);
            })?;
        }
        let delivering = Arc::clone(&shared);
        thread::Builder::new().name("switch".to_owned()).spawn(move || delivering.deliver())?;
        Ok(Self(shared))
    }

    /// Nothing is delivered any more. Threads that read a device end when it is
    /// removed.
    pub fn close(&self) {
        // With the lock: who delivers looks before it waits.
        let _sky = self.0.sky.lock();
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.earlier.notify_one();
    }

    /// Sets the link from one port to another.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.0.table.lock().pairs.entry((from, to)).or_default().link = link;
    }

    /// Changes the link from one port to another.
    pub fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Link)) {
        change(&mut self.0.table.lock().pairs.entry((from, to)).or_default().link);
    }

    /// What was counted from one port to another.
    pub fn count(&self, from: usize, to: usize) -> Count {
        self.0.table.lock().pairs.get(&(from, to)).map(|pair| pair.count).unwrap_or_default()
    }
}

impl Shared {
    fn read(&self, port: usize) {
        hurry();
        let mut buffer = vec![0; FRAME_MAX];
        loop {
            match self.ports[port].recv(&mut buffer) {
                Ok(length) => self.forward(port, &buffer[..length]),
                Err(_) if self.closed.load(Ordering::Relaxed) => return,
                // A device that is down for a moment.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn forward(&self, from: usize, frame: &[u8]) {
        let Some(to) = port_of(frame).filter(|to| *to < self.ports.len()) else { return };
        let now = self.began.elapsed();
        let sent = {
            let mut table = self.table.lock();
            let Table { pairs, dice } = &mut *table;
            let pair = pairs.entry((from, to)).or_default();
            let sent = pair.line.send(&pair.link, now, frame.len(), dice);
            match sent {
                Ok(_) => pair.count.passed += 1,
                Err(Dropped::Cut) => pair.count.cut += 1,
                Err(Dropped::Lost | Dropped::Crowded) => pair.count.lost += 1,
            }
            sent
        };
        let Ok((first, again)) = sent else { return };
        let mut sky = self.sky.lock();
        let next = sky.flights.peek().map(|Reverse(flight)| flight.due);
        for due in [Some(first), again].into_iter().flatten() {
            sky.sent += 1;
            let number = sky.sent;
            sky.flights.push(Reverse(Flight { due, number, port: to, frame: frame.to_vec() }));
        }
        if next.is_none_or(|next| first < next) {
            self.earlier.notify_one();
        }
    }

    fn deliver(&self) {
        hurry();
        let mut sky = self.sky.lock();
        while !self.closed.load(Ordering::Relaxed) {
            let now = self.began.elapsed();
            match sky.flights.peek().map(|Reverse(flight)| flight.due) {
                None => self.earlier.wait(&mut sky),
                Some(due) if due > now => {
                    self.earlier.wait_until(&mut sky, self.began + due);
                }
                Some(_) => {
                    if let Some(Reverse(flight)) = sky.flights.pop() {
                        parking_lot::MutexGuard::unlocked(&mut sky, || {
                            // A full queue or a device that is down loses the frame.
                            self.ports[flight.port].send(&flight.frame).ok();
                        });
                    }
                }
            }
        }
    }
}

/// Who may not be worth more stays what it is.
fn hurry() {
    rustix::process::setpriority_process(None, NICENESS).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_its_address() {
        for port in [0, 1, 17, 255] {
            assert_eq!(port_of(&mac(port)), Some(port));
        }
        assert_eq!(port_of(&[0xff; 6]), None);
        assert_eq!(port_of(&[0x33, 0x33, 0, 0, 0, 1]), None);
        assert_eq!(port_of(&[2]), None);
    }

    #[test]
    fn flights_are_delivered_by_arrival_then_by_departure() {
        let flight = |due, number| Flight {
            due: Duration::from_millis(due),
            number,
            port: 9 - usize::try_from(number).unwrap(),
            frame: Vec::new(),
        };
        let mut sky = BinaryHeap::new();
        for (due, number) in [(5, 1), (3, 2), (5, 3), (3, 4)] {
            sky.push(Reverse(flight(due, number)));
        }
        let order: Vec<u64> =
            std::iter::from_fn(|| sky.pop().map(|Reverse(flight)| flight.number)).collect();
        assert_eq!(order, [2, 4, 1, 3]);
    }
}
