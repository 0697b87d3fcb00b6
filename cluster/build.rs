//! Compiles `proto/cluster.proto` without `protoc`.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/cluster.proto");
    // Where the package is now, and not where this script was compiled.
    let root = Path::new("proto");
    let files = protox::compile(["cluster.proto"], [root])?;
    tonic_prost_build::configure().bytes(".").emit_rerun_if_changed(false).compile_fds(files)?;
    Ok(())
}
