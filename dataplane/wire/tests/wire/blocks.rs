//! The labelled hex blocks of docs/wire-format.md.

/// Label and bytes of each block, in the order of the document.
pub(crate) fn read() -> Vec<(String, Vec<u8>)> {
    let text = include_str!("../../../../docs/wire-format.md");
    let mut blocks: Vec<(String, Vec<u8>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(label) = line.strip_prefix("```hex ") {
            assert!(!inside, "block {label} begins inside another one");
            assert!(blocks.iter().all(|(other, _)| other != label), "block {label} stands there twice");
            blocks.push((label.to_owned(), Vec::new()));
            inside = true;
        } else if line.starts_with("```") {
            inside = false;
        } else if inside {
            let (label, bytes) = blocks.last_mut().expect("a block is open");
            for word in line.split_whitespace() {
                bytes.push(
                    u8::from_str_radix(word, 16).unwrap_or_else(|_| panic!("{word} in block {label} is not a byte")),
                );
            }
        }
    }
    blocks
}
