//! The words of a script line.

use wire::rc::Opcode;

/// Words and `name=value` pairs of one line.
pub(crate) struct Fields {
    words: Vec<String>,
}

impl Fields {
    pub(crate) fn parse(line: &str) -> Self {
        Self { words: line.split_whitespace().map(str::to_owned).collect() }
    }

    pub(crate) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|other| other == word)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).map(number)
    }
}

/// The packets of a whole answer to a READ, a line each: all but the last have 256 bytes, the path MTU of scripts.
pub(super) fn answer(fields: &Fields) -> Vec<String> {
    let (address, len) = range(fields.text("data").expect("an answer has data"));
    let (psn, msn) = (fields.number("psn").expect("a first PSN"), fields.number("msn").expect("an MSN"));
    let packets = len.div_ceil(256).max(1);
    let line = |packet: u64| {
        let (data, psn) = (address + 256 * packet, psn + packet);
        let bytes = (len - 256 * packet).min(256);
        let (kind, aeth) = match (packet == 0, packet + 1 == packets) {
            (true, true) => ("ONLY", format!(" syn=ack msn={msn}")),
            (true, false) => ("FIRST", format!(" syn=ack msn={msn}")),
            (false, true) => ("LAST", format!(" syn=ack msn={msn}")),
            (false, false) => ("MIDDLE", String::new()),
        };
        format!("> READ_{kind} psn={psn}{aeth} data={data:#x}+{bytes}")
    };
    (0..packets).map(line).collect()
}

/// A decimal or hexadecimal number.
pub(super) fn number(text: &str) -> u64 {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    value.unwrap_or_else(|_| panic!("{text} is not a number"))
}

/// `address+length`.
pub(super) fn range(text: &str) -> (u64, u64) {
    let (address, len) = text.split_once('+').unwrap_or_else(|| panic!("{text} is not a range"));
    (number(address), number(len))
}

const NAMES: [(&str, Opcode); 24] = [
    ("SEND_FIRST", Opcode::SEND_FIRST),
    ("SEND_MIDDLE", Opcode::SEND_MIDDLE),
    ("SEND_LAST", Opcode::SEND_LAST),
    ("SEND_LAST_IMM", Opcode::SEND_LAST_IMM),
    ("SEND_ONLY", Opcode::SEND_ONLY),
    ("SEND_ONLY_IMM", Opcode::SEND_ONLY_IMM),
    ("WRITE_FIRST", Opcode::WRITE_FIRST),
    ("WRITE_MIDDLE", Opcode::WRITE_MIDDLE),
    ("WRITE_LAST", Opcode::WRITE_LAST),
    ("WRITE_LAST_IMM", Opcode::WRITE_LAST_IMM),
    ("WRITE_ONLY", Opcode::WRITE_ONLY),
    ("WRITE_ONLY_IMM", Opcode::WRITE_ONLY_IMM),
    ("READ", Opcode::READ_REQUEST),
    ("READ_FIRST", Opcode::READ_RESPONSE_FIRST),
    ("READ_MIDDLE", Opcode::READ_RESPONSE_MIDDLE),
    ("READ_LAST", Opcode::READ_RESPONSE_LAST),
    ("READ_ONLY", Opcode::READ_RESPONSE_ONLY),
    ("ACK", Opcode::ACKNOWLEDGE),
    ("ATOMIC_ACK", Opcode::ATOMIC_ACKNOWLEDGE),
    ("CAS", Opcode::COMPARE_SWAP),
    ("ADD", Opcode::FETCH_ADD),
    ("SEND_LAST_INV", Opcode::SEND_LAST_INVALIDATE),
    ("SEND_ONLY_INV", Opcode::SEND_ONLY_INVALIDATE),
    ("CNP", Opcode::CNP),
];

pub(super) fn opcode_of(name: &str) -> Opcode {
    NAMES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is not an opcode")).1
}

pub(super) fn name_of(opcode: Opcode) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == opcode).expect("a name for every opcode").0
}
