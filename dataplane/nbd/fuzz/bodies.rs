//! What fuzz targets and tests do with any input.

use nbd::{Export, NbdOperation, Negotiated, Negotiation, NegotiationStep, RequestHead};
use std::sync::Arc;

fn export() -> Arc<Export> {
    Arc::new(Export {
        name: "disk".to_owned(),
        description: String::new(),
        size: 1 << 30,
        least: 512,
        preferred: 4096,
        most: 1 << 25,
        is_read_only: false,
    })
}

/// What came of a negotiation: its bytes, how many bytes it took, and how it stands or why it ended.
type Outcome = (Vec<u8>, usize, Result<NegotiationStep, String>);

/// Gives a negotiation the input in parts, whose lengths come from `cuts`.
fn negotiate(input: &[u8], mut cuts: u64) -> Outcome {
    let mut negotiation = Negotiation::new(export());
    let (mut out, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        match negotiation.take(&input[at..end], &mut out) {
            Err(fault) => return (out, at, Err(fault.to_string())),
            Ok((taken, step)) => {
                assert!(taken <= end - at && end - at - taken <= Negotiation::MOST_NEEDED);
                at += taken;
                if step != NegotiationStep::More || end == input.len() {
                    return (out, at, Ok(step));
                }
            }
        }
        let part = if cuts == 0 { input.len() } else { 1 + cuts as usize % 29 };
        cuts = cuts.rotate_right(5);
        end = input.len().min(end + part);
    }
}

/// Any bytes to a negotiation: how they are cut makes no difference.
pub fn negotiation(cuts: u64, input: &[u8]) {
    let (out, taken, step) = negotiate(input, 0);
    let (out_cut, taken_cut, step_cut) = negotiate(input, cuts | 1);
    assert_eq!((&out, &step), (&out_cut, &step_cut));
    // Where it ends with a fault, the bytes before depend on the cut.
    assert!(step.is_err() || taken == taken_cut);
}

/// Any bytes as a request: what is accepted lies on the disk.
pub fn request(input: &[u8]) {
    let Some(bytes) = input.first_chunk() else { return };
    let mut right = *bytes;
    right[..4].copy_from_slice(&0x2560_9513u32.to_be_bytes());
    for bytes in [*bytes, right] {
        let Ok(head) = RequestHead::parse(&bytes) else { continue };
        let export = export();
        for structured in [false, true] {
            let Ok(operation) = head.check(&export, Negotiated { structured, allocation: structured }) else {
                continue;
            };
            if !matches!(operation, NbdOperation::Disconnect | NbdOperation::Flush) {
                assert!(head.len > 0 && head.offset + u64::from(head.len) <= export.size);
                assert!(head.len.is_multiple_of(512) && head.offset.is_multiple_of(512));
            }
            assert_eq!(head.payload() > 0, operation == NbdOperation::Write);
        }
    }
}
