//! Generates the gRPC code from proto/ (and tests/proto/ for the tests) without protoc.

use std::path::{Path, PathBuf};

/// Holds ServiceAccount tokens: without `Debug` it cannot be formatted into a log.
const NOT_PRINTABLE: [&str; 1] = ["csi.v1.NodePublishVolumeRequest"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    generate(&["csi.proto", "pluginregistration.proto"], "proto", &out)?;
    // The same package as the driver's own, hence a folder of its own.
    generate(&["controller.proto"], "tests/proto", &out.join("tests"))
}

fn generate(files: &[&str], folder: &str, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={folder}");
    std::fs::create_dir_all(out)?;
    let descriptors = protox::compile(files, [folder])?;
    tonic_prost_build::configure().skip_debug(NOT_PRINTABLE).out_dir(out).compile_fds(descriptors)?;
    Ok(())
}
