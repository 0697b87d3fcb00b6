//! The life of a cluster: nodes come, are drained, go and are replaced; leaders
//! move home; data is backed up, restored and verified. All while serving.
//!
//! - [`driver`]: at the directory's leader, takes the planner's steps
//! - [`departure`]: draining a node, and letting one go for good
//! - [`mod@backup`] and [`mod@restore`]: a fenced copy of everything, and a cluster
//!   made from one
//! - [`version`]: what every node understands, raised when they all do
//! - [`mod@index`]: indexes that an upgrade brought are built; [`rules`] says what
//!   layers know of theirs
//! - [`mod@verify`]: whether indexes lead to homes, and replicas are the same
//!
//! Every step is a change of a row of the directory that names the generation it
//! was decided on; the leaders of groups make rows true. So a driver that lost
//! its office, or stopped half way, does no harm, and the next one goes on.

pub mod backup;
mod changes;
pub mod departure;
pub mod driver;
pub mod index;
pub mod restore;
pub mod rules;
pub mod verify;
pub mod version;

pub use self::{
    backup::{BackupError, BackupPlan, BackupReport, Progress, back_up},
    departure::{decommission, drain, resume},
    index::{BuildPace, Indexing},
    restore::{RestoreError, RestorePlan, RestoreReport, restore},
    rules::{IndexRules, NoIndexes},
    verify::{Mending, Pace, VerifyReport, verify},
};
