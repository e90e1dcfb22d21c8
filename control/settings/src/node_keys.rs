//! The keys of several nodes in one file, a line for each: `master 3 64_HEX_DIGITS`.
//!
//! A file with the key of one node has that key alone, and no role or id.

use crate::id_range::IdRange;
use crate::keyfile;
use common::exit::Failure;
use link::key_ring::MAX_KEYS;
use link::{Credential, KeyRing, NodeKey};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use wire::link::{NodeId, Role};

/// The keys of some nodes, as their file has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKeyFile(pub Vec<(NodeId, NodeKey)>);

impl fmt::Display for NodeKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (node, key)) in self.0.iter().enumerate() {
            let line_end = if at == 0 { "" } else { "\n" };
            write!(f, "{line_end}{} {} {key}", role_name(node.role), node.id)?;
        }
        Ok(())
    }
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Slave => "slave",
        Role::Master => "master",
    }
}

/// What a key file of nodes has.
enum Content {
    /// The key of one node, whichever it is.
    One(NodeKey),
    /// Keys of these nodes.
    Each(Vec<(NodeId, NodeKey)>),
}

/// The keys with which these nodes sign, from one file; or from two while the cluster changes its key, the old keys
/// first.
///
/// # Errors
/// It fails as [`keyfile::read`] does. The error is [`Failure::Setting`] when a file does not have the keys of all
/// these nodes, and [`Failure::Usage`] when there are more than two files.
pub(crate) fn credential(paths: &[PathBuf], role: Role, ids: IdRange) -> Result<Credential, Failure> {
    let mut rings: Vec<(NodeId, Vec<NodeKey>)> =
        ids.iter().map(|id| (NodeId { role, id }, Vec::with_capacity(MAX_KEYS))).collect();
    for path in paths {
        let content = read(path)?;
        for (node, keys) in &mut rings {
            keys.push(key_of(&content, *node, ids.count() == 1, path)?.clone());
        }
    }
    let ring = |keys| {
        KeyRing::from_keys(keys).ok_or_else(|| {
            Failure::Usage(format!(
                "{} key files are too many: name one, or {MAX_KEYS} while the cluster changes its key, the old one \
                 first",
                paths.len()
            ))
        })
    };
    let mut rings =
        rings.into_iter().map(|(node, keys)| Ok((node, ring(keys)?))).collect::<Result<Vec<_>, Failure>>()?;
    match (rings.pop(), rings.is_empty()) {
        (Some((_, ring)), true) => Ok(Credential::Node(ring)),
        (last, _) => Ok(Credential::Nodes(rings.into_iter().chain(last).collect())),
    }
}

fn key_of<'a>(content: &'a Content, node: NodeId, is_alone: bool, path: &Path) -> Result<&'a NodeKey, Failure> {
    let wrong = |text: String| Err(Failure::Setting { name: "key-file", text });
    match content {
        Content::One(key) if is_alone => Ok(key),
        Content::One(_) => wrong(format!(
            "{}: is the key of one id, and this process has several: make a file with the keys of all (`gvm-dp key \
             derive --role {} --id FIRST-LAST`), or give it --cluster-key-file",
            path.display(),
            role_name(node.role)
        )),
        Content::Each(keys) => match keys.iter().find(|(other, _)| *other == node) {
            Some((_, key)) => Ok(key),
            None => wrong(format!(
                "{}: has no key of {} {}: make a file with the keys of all ids of this process (`gvm-dp key derive \
                 --role {1} --id FIRST-LAST`)",
                path.display(),
                role_name(node.role),
                node.id
            )),
        },
    }
}

fn read(path: &Path) -> Result<Content, Failure> {
    keyfile::read_with(path, |text| {
        if text.split_whitespace().nth(1).is_none() {
            let key = text.parse().map_err(|source| Failure::KeyText { path: path.to_owned(), source })?;
            return Ok(Content::One(key));
        }
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| parse(line, path))
            .collect::<Result<_, _>>()
            .map(Content::Each)
    })
}

fn parse(line: &str, path: &Path) -> Result<(NodeId, NodeKey), Failure> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [role, id, key] = words[..] else { return Err(malformed(path)) };
    let role = [Role::Slave, Role::Master].into_iter().find(|known| role_name(*known) == role);
    let (Some(role), Ok(id)) = (role, id.parse()) else { return Err(malformed(path)) };
    let key = key.parse().map_err(|source| Failure::KeyText { path: path.to_owned(), source })?;
    Ok((NodeId { role, id }, key))
}

/// The line itself may be a part of a key: it is not printed.
fn malformed(path: &Path) -> Failure {
    let text = "a line is not a role, an id and a key, as `gvm-dp key derive --id FIRST-LAST` writes them";
    Failure::KeyFile { path: path.to_owned(), source: io::Error::other(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use link::ClusterKey;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn nodes(role: Role, ids: std::ops::RangeInclusive<u32>, byte: u8) -> NodeKeyFile {
        let cluster = ClusterKey::from_bytes([byte; 32]);
        NodeKeyFile(ids.map(|id| NodeId { role, id }).map(|node| (node, cluster.node_key(node))).collect())
    }

    fn written(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("gvm-node-keys-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn credential_of(paths: &[&PathBuf], ids: &str) -> Result<Credential, Failure> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).clone()).collect();
        credential(&paths, Role::Master, ids.parse().unwrap())
    }

    #[test]
    fn each_node_finds_its_keys_in_the_file() {
        let (old, new) = (nodes(Role::Master, 1..=8, 1), nodes(Role::Master, 0..=9, 2));
        let (old_file, new_file) = (written("old", &format!("{old}\n")), written("new", &new.to_string()));
        let both = credential_of(&[&old_file, &new_file], "1-8").unwrap();
        for id in 1..9 {
            let ring = both.node_keys(NodeId::master(id));
            assert_eq!(ring.get(0), Some(&old.0[usize::from(id) - 1].1));
            assert_eq!(ring.get(1), Some(&new.0[usize::from(id)].1));
        }
        assert!(both.node_keys(NodeId::master(9)).is_empty());
        // A part of the file is enough, also for one node.
        let one = credential_of(&[&new_file], "9").unwrap();
        assert_eq!(one, Credential::Node(new.0[9].1.clone().into()));
        let too_many = credential_of(&[&old_file, &new_file, &old_file], "1-2").unwrap_err().to_string();
        assert!(too_many.contains("3 key files are too many"), "{too_many}");
        // A file with one key is as it always was.
        let alone = written("alone", &format!("{}\n", old.0[0].1));
        assert_eq!(credential_of(&[&alone], "1").unwrap(), Credential::Node(old.0[0].1.clone().into()));
        [old_file, new_file, alone].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }

    #[test]
    fn a_key_that_is_missing_or_malformed_is_said_and_not_printed() {
        let some = nodes(Role::Master, 1..=2, 1);
        let secret = some.0[0].1.to_string();
        let slaves = nodes(Role::Slave, 1..=3, 1).to_string();
        for (name, text, ids, code, part) in [
            ("few", some.to_string(), "1-3", 2, "has no key of master 3"),
            ("slaves", slaves, "1-3", 2, "has no key of master 1"),
            ("one", secret.clone(), "1-2", 2, "is the key of one id, and this process has several"),
            ("words", format!("master 1 {secret} x"), "1", 5, "is not a role, an id and a key"),
            ("role", format!("gateway 1 {secret}"), "1", 5, "is not a role, an id and a key"),
            ("id", format!("master one {secret}"), "1", 5, "is not a role, an id and a key"),
            ("short", format!("master 1 {}", &secret[1..]), "1", 5, "63 characters"),
        ] {
            let path = written(name, &text);
            let failure = credential_of(&[&path], ids).unwrap_err();
            let said = failure.to_string();
            assert!(said.contains(part) && failure.code() == code && !said.contains(&secret[1..]), "{name}: {said}");
            std::fs::remove_file(path).unwrap();
        }
    }
}
