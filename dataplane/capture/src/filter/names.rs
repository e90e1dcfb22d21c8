//! Message types by name, as filters write them.

use wire::MsgType;

/// The names, as in the table of `docs/wire-format.md`.
const NAMES: [(&str, MsgType); 10] = [
    ("heartbeat", MsgType::HEARTBEAT),
    ("heartbeat_ack", MsgType::HEARTBEAT_ACK),
    ("members", MsgType::MEMBERS),
    ("connect", MsgType::CONNECT),
    ("connect_reply", MsgType::CONNECT_REPLY),
    ("disconnect", MsgType::DISCONNECT),
    ("echo", MsgType::ECHO),
    ("echo_reply", MsgType::ECHO_REPLY),
    ("rc", MsgType::RC),
    ("pattern", MsgType::PATTERN),
];

/// The name of a type, if it has one.
pub fn name_of(msg_type: MsgType) -> Option<&'static str> {
    NAMES.iter().find(|(_, named)| *named == msg_type).map(|(name, _)| *name)
}

/// The type with this name, in upper or lower case.
pub(super) fn type_of(name: &str) -> Option<MsgType> {
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, msg_type)| *msg_type)
}

/// All names, for an error message about an unknown one.
pub(super) fn all() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}
