//! Who uses whom, from `cargo metadata`.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::path::{Path, PathBuf};

/// The purpose for which a crate uses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For its libraries and programs, or to build them.
    Build,
    /// In its tests only.
    Tests,
}

/// One use of a crate by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The name of the used crate; crates of the house without their prefix.
    pub name: String,
    /// The directory of the used crate, from the root of the workspace; `None` for the crates of others.
    pub place: Option<String>,
    /// The purpose.
    pub purpose: Purpose,
}

/// A crate of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crate {
    /// Its directory, from the root of the workspace.
    pub place: String,
    /// What it uses.
    pub uses: Vec<Use>,
    /// The files that its libraries and programs begin with.
    pub roots: Vec<PathBuf>,
}

/// Reads the graph of the workspace whose root this is. Needs no network.
///
/// # Errors
/// `cargo metadata` cannot be run, or does not understand the workspace.
pub fn read(root: &Path) -> Result<Vec<Crate>, cargo_metadata::Error> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let from_root = |path: &Path| {
        path.strip_prefix(metadata.workspace_root.as_std_path()).unwrap_or(path).to_string_lossy().into_owned()
    };
    let krate = |package: &cargo_metadata::Package| Crate {
        place: package.manifest_path.parent().map(|place| from_root(place.as_std_path())).unwrap_or_default(),
        uses: package
            .dependencies
            .iter()
            .map(|dependency| Use {
                name: dependency.name.strip_prefix("gvm-").unwrap_or(&dependency.name).to_owned(),
                place: dependency.path.as_ref().map(|place| from_root(place.as_std_path())),
                purpose: match dependency.kind {
                    DependencyKind::Development => Purpose::Tests,
                    _ => Purpose::Build,
                },
            })
            .collect(),
        roots: package
            .targets
            .iter()
            .filter(|target| target.is_lib() || target.is_bin())
            .map(|target| target.src_path.clone().into_std_path_buf())
            .collect(),
    };
    Ok(metadata.packages.iter().map(krate).collect())
}
