//! What can be run: one file per command.

pub mod checks;
pub mod cluster;
pub mod compare;
pub mod figures;
pub mod idle;
pub mod load;
pub mod newcomers;
pub mod progress;
pub mod restart;
