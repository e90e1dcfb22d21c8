//! Whatever a client sends, nothing panics, and how the bytes are cut makes no difference.

use super::bodies;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(input in proptest::collection::vec(any::<u8>(), 0..400), cuts in any::<u64>()) {
        bodies::negotiation(cuts, &input);
        bodies::request(&input);
    }

    /// Options that are nearly right.
    #[test]
    fn options_with_faults(
        options in proptest::collection::vec(
            (0u32..13, proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..40), 0u32..3), 0..6),
        flags in 0u32..4, cuts in any::<u64>()) {
        let mut input = flags.to_be_bytes().to_vec();
        for (option, data, more) in options {
            input.extend(b"IHAVEOPT");
            input.extend(option.to_be_bytes());
            input.extend((data.len() as u32 + more / 2).to_be_bytes());
            input.extend(data);
        }
        bodies::negotiation(cuts, &input);
    }
}
