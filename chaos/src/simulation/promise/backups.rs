//! What a backup holds. It is of one cut: no transaction is half in it; what the
//! promises say of live rows they say of those in a backup, too.

use std::collections::BTreeMap;

use cardea_cluster::life::backup::archive::{ArchiveError, RowReader, read_manifest};
use cardea_storage::{Space, Tag, Timestamp, engine::Disk};

use crate::simulation::cells::{self, CellKind};

/// What a backup holds of the clients' rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackedUp {
    /// When it was asked for, in milliseconds.
    pub began: u64,
    /// When it was done.
    pub ended: u64,
    /// The newest log time of a group at its cut: what had expired by then is gone,
    /// though a group whose time was behind still shows it.
    pub log_time: Timestamp,
    /// Of loans: the expiries of row and index row, as far as they are there.
    pub loans: BTreeMap<u64, (Option<Timestamp>, Option<Timestamp>)>,
    pub(super) cells: BTreeMap<(CellKind, bool, u64), u64>,
}

impl BackedUp {
    /// Reads a backup.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(
        disk: &dyn Disk,
        directory: &std::path::Path,
        (began, ended): (u64, u64),
    ) -> Result<Self, ArchiveError> {
        let mut this = Self { began, ended, ..Self::default() };
        let manifest = read_manifest(disk, directory)?;
        for entry in &manifest.groups {
            this.log_time = this.log_time.max(Timestamp(entry.log_time));
            let mut rows = RowReader::open(disk, directory, entry)?;
            while let Some(block) = rows.next_block()? {
                block.iter().for_each(|row| this.take(row));
            }
        }
        Ok(this)
    }

    fn take(&mut self, row: &cardea_storage::Row) {
        if row.key.tag() == Tag::TEST_INDEX {
            if let Some(loan) = cells::loan_of_index(&row.key) {
                self.loans.entry(loan).or_default().1 = row.expires_at;
            }
            return;
        }
        let Some((kind, number, value)) = cells::read_row(row) else { return };
        if kind == CellKind::Loan {
            self.loans.entry(number).or_default().0 = row.expires_at;
        }
        let is_home = row.key.slot().space() == Space::Home;
        self.cells.insert((kind, is_home, number), value);
    }

    /// The numbers of a kind of which anything is there.
    pub(super) fn numbers(&self, kind: CellKind) -> impl Iterator<Item = u64> {
        let mut numbers: Vec<u64> =
            self.cells.keys().filter(|key| key.0 == kind).map(|key| key.2).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter()
    }

    /// A cell at home; 0 if it is not there.
    pub(super) fn home(&self, kind: CellKind, number: u64) -> u64 {
        self.cells.get(&(kind, true, number)).copied().unwrap_or(0)
    }

    /// A cell in the index; 0 if it is not there.
    pub(super) fn index(&self, kind: CellKind, number: u64) -> u64 {
        self.cells.get(&(kind, false, number)).copied().unwrap_or(0)
    }

    #[cfg(test)]
    pub(super) fn put_home(&mut self, kind: CellKind, number: u64, value: u64) {
        self.cells.insert((kind, true, number), value);
    }

    #[cfg(test)]
    pub(super) fn put_index(&mut self, kind: CellKind, number: u64, value: u64) {
        self.cells.insert((kind, false, number), value);
    }
}
