//! Sees to it that no image is built without the page.

use std::{env, path::Path};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by the environment"
)]
fn main() {
    let page = "web/dist";
    println!("cargo::rerun-if-changed={page}");
    // `release` also in profiles that inherit from it, as that of the images.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if is_release && !Path::new(page).join("index.html").is_file() {
        println!("cargo::error=workers/dashboard/web/dist has no page: `cargo xtask web` builds it");
    }
}
