//! `gvm-dp key`: make, show and derive keys.

use crate::cli::{KeyCommand, NodeRole};
use common::exit::Failure;
use common::output::print_whole;
use lease::ConnectKey;
use link::ClusterKey;
use settings::keyfile;
use settings::node_keys::NodeKeyFile;
use std::fmt::Display;
use std::path::Path;
use wire::Scale;
use wire::link::{NodeId, Role};
use zeroize::Zeroizing;

/// The most keys of one file. A process with more ids derives their keys from the cluster key.
const MOST_KEYS: u64 = 512;

/// Runs one of the key commands.
///
/// # Errors
/// It fails as [`keyfile::read`] and [`keyfile::write`] do. The error is [`Failure::Usage`] when no node can have the
/// id. It is [`Failure::Machine`] when the kernel has no random numbers. It is [`Failure::Output`] when stdout does not
/// take all of the text.
pub fn run(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::New { out } => {
            let key = ClusterKey::written(|bytes| getrandom::fill(bytes));
            let key = key.map_err(|error| Failure::Machine(format!("no random numbers: {error}")))?;
            hand_over(&key, out.as_deref())
        }
        KeyCommand::Show { key_file, role, id, connect } => {
            let key: ClusterKey = keyfile::read(&key_file)?;
            let fingerprint = match role.zip(id) {
                Some((role, id)) => key.node_key(node(role, id)?).fingerprint(),
                None if connect => ConnectKey::of_cluster(key.as_bytes()).fingerprint(),
                None => key.fingerprint(),
            };
            say(&fingerprint)
        }
        KeyCommand::Derive { key_file, role, id, out, .. } => {
            let key: ClusterKey = keyfile::read(&key_file)?;
            match role.zip(id) {
                Some((role, ids)) if ids.count() == 1 => {
                    hand_over(&key.node_key(node(role, ids.first())?), out.as_deref())
                }
                Some((role, ids)) => {
                    if ids.count() > MOST_KEYS {
                        let text = format!("--id {ids}: a key file has at most {MOST_KEYS} keys");
                        return Err(Failure::Usage(text));
                    }
                    let nodes = ids.iter().map(|id| node(role, id)).collect::<Result<Vec<_>, _>>()?;
                    let keys = nodes.into_iter().map(|node| (node, key.node_key(node))).collect();
                    hand_over(&NodeKeyFile(keys), out.as_deref())
                }
                // The command line has a role and an id, or else --connect.
                None => hand_over(&ConnectKey::of_cluster(key.as_bytes()), out.as_deref()),
            }
        }
    }
}

/// Prints a key, or writes it into a new private file and prints nothing secret.
fn hand_over(key: &impl Display, out: Option<&Path>) -> Result<(), Failure> {
    match out {
        Some(path) => {
            keyfile::write(path, key)?;
            say(&path.display())
        }
        None => say(key),
    }
}

/// Prints a line. It is an error if nobody gets the key, but not if nobody reads all of a table.
fn say(text: &impl Display) -> Result<(), Failure> {
    print_whole(&Zeroizing::new(format!("{text}\n")))
}

fn node(role: NodeRole, id: u32) -> Result<NodeId, Failure> {
    match role {
        // The scale of the cluster is not known here: every id that some scale has may have a key.
        NodeRole::Slave if id < 1 << Scale::MAX_SLAVE_BITS => Ok(NodeId { role: Role::Slave, id }),
        NodeRole::Slave => {
            Err(Failure::Usage(format!("--id {id}: slave ids are below {}", 1 << Scale::MAX_SLAVE_BITS)))
        }
        NodeRole::Master => u16::try_from(id)
            .map(NodeId::master)
            .map_err(|_| Failure::Usage(format!("--id {id}: master ids are 0 to {}", u16::MAX))),
    }
}
