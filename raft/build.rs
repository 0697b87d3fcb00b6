//! Compiles `proto/raft.proto` without `protoc`.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/raft.proto");
    // Where the package is now, and not where this script was compiled.
    let root = Path::new("proto");
    let files = protox::compile(["raft.proto"], [root])?;
    tonic_prost_build::configure()
        .bytes(".cardea.raft.v1.AppendRequest.entries")
        .bytes(".cardea.raft.v1.FileData.data")
        .bytes(".cardea.raft.v1.SnapshotBegin.meta")
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;
    Ok(())
}
