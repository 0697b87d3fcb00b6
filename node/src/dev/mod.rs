//! `cardea dev`: a whole cluster on one machine. A supervisor runs three
//! processes of the same binary, keeps them alive, shows what they say, and
//! can stand between them as a slow or broken network.

pub mod child;
pub mod control;
pub mod link;
pub mod lock;
pub mod plan;
pub mod supervisor;
