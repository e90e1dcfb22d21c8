#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u64, &[u8])| bodies::negotiation(input.0, input.1));
