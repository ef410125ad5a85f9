//! What every package of the workspace brings along.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::{fs, path::Path};

/// Both licences ask for their text to be handed on, and a package is all that many see of us.
#[test]
fn every_package_has_the_text_of_its_licences() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut count = 0;
    for entry in fs::read_dir(crates).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        if manifest.contains("publish = false") {
            continue;
        }
        for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let ours = fs::read_to_string(crates.parent().unwrap().join(name)).unwrap();
            let its = fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(its == ours, "{name} of {}", folder.display());
        }
        count += 1;
    }
    assert!(count >= 5, "{count} packages");
}
