//! A node of version 1 of link control. It is a node of version 2 whose messages are rewritten in both directions.

use wire::link::{Heartbeat, NodeId, Role, v1};
use wire::{HEADER_LEN, Key, MsgType, Record, Scale, Walk, tag};

/// Turns heartbeats of version 2 into those of a node of version 1. A padded heartbeat keeps its length.
pub(super) fn sent(datagram: &[u8], scale: Scale, key: impl Fn(NodeId) -> Option<Key>) -> Vec<u8> {
    let mut out = Vec::new();
    for (_, record) in Walk::new(datagram, scale).flatten() {
        let Ok(Heartbeat { node, padded, .. }) = Heartbeat::parse(&record) else {
            out.extend_from_slice(record.bytes());
            continue;
        };
        let new = record.payload();
        let mut old =
            [&[0; 16], &[v1::VERSION_MAJOR, 0][..], &new[18..40], &new[48..56], &new[64..96], &new[100..104]].concat();
        assert_eq!(old.len(), v1::HEARTBEAT_LEN);
        if padded {
            old.resize(new.len(), 0);
        }
        append(&mut out, node, MsgType::HEARTBEAT, &old, key(node));
    }
    out
}

/// Turns answers and MEMBERS of version 1 into those of version 2.
pub(super) fn heard(
    datagram: &[u8],
    scale: Scale,
    challenge: impl Fn(NodeId) -> u64,
    key: impl Fn(NodeId) -> Option<Key>,
) -> Vec<u8> {
    let mut out = Vec::new();
    for (_, record) in Walk::new(datagram, scale).flatten() {
        let (old, msg_type) = (record.payload(), record.header().msg_type());
        let is_whole = old.len() >= 48 && old[16] == v1::VERSION_MAJOR;
        let new = match msg_type {
            MsgType::HEARTBEAT_ACK if is_whole && old.len() >= 56 => {
                // An answer asks for another heartbeat with the new cookie, unless it registers the node or names a
                // duplicate.
                let fault = u8::from(old[18] & 0b110 == 0);
                let challenge = challenge(node_of(&record)).to_le_bytes();
                let head =
                    [&[0; 16], &[2, 0][..], &old[18..32], &challenge, &old[32..40], &[0; 8], &old[40..52]].concat();
                [&head, &[fault, 0][..], &old[54..56], &[0; 16], &old[56..]].concat()
            }
            MsgType::MEMBERS if is_whole => {
                let challenge = challenge(node_of(&record)).to_le_bytes();
                [&[0; 16], &[2, 0][..], &old[18..24], &challenge, &old[24..48], &[0; 8], &old[48..]].concat()
            }
            _ => {
                out.extend_from_slice(record.bytes());
                continue;
            }
        };
        let node = node_of(&record);
        // A forged record must stay forged.
        let key = key(node).filter(|key| tag::verify(key, record.bytes()));
        append(&mut out, node, msg_type, &new, key);
    }
    out
}

fn node_of(record: &Record<'_>) -> NodeId {
    let header = record.header();
    let is_slave = header.msg_type() == MsgType::HEARTBEAT_ACK && record.payload().get(21) == Some(&1);
    if is_slave { NodeId { role: Role::Slave, id: header.slave_id() } } else { NodeId::master(header.master_id()) }
}

fn append(out: &mut Vec<u8>, node: NodeId, msg_type: MsgType, payload: &[u8], key: Option<Key>) {
    let header = node.header(msg_type, payload.len() as u32).expect("it was a node's");
    let mut record = vec![0; HEADER_LEN + payload.len()];
    wire::record::emit(&header, payload, &mut record).expect("there is room");
    if let Some(key) = key {
        tag::sign(&key, &mut record);
    }
    out.extend(record);
}
