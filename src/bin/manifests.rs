//! manifests
fn main() {}
