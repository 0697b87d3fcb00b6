//! Compiles the files in `proto/` without `protoc`, and keeps their descriptors for
//! reflection.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // Where the package is now, and not where this script was compiled.
    let root = Path::new("proto");
    let mut names = Vec::new();
    collect(root, root, &mut names)?;
    names.sort();
    let files = protox::compile(names, [root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("permission.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;
    Ok(())
}

fn collect(root: &Path, at: &Path, names: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(at)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            names.push(path.strip_prefix(root)?.to_owned());
        }
    }
    Ok(())
}
