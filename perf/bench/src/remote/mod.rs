//! Pages of another machine: what the benchmarks of remote memory have in common.
//!
//! | module | what |
//! |---|---|
//! | [`bare`] | the same packets without a transport |
//! | [`cpu`] | processor time of the whole machine, and of this process |
//! | [`machine`] | lcores in network namespaces that are joined by veth |
//! | [`reader`] | a role that keeps READs of 4 KiB outstanding, and one that serves them |
//! | [`relay`] | what stands between the two: a gateway, or a bare forwarder |
//! | [`tcp`] | the same pages over TCP |

pub mod bare;
pub mod cpu;
pub mod machine;
pub mod reader;
pub mod relay;
pub mod tcp;

/// Bytes of a page.
pub const PAGE: u32 = 4096;

/// Pages of the memory that is read: 64 MiB, more than any cache of these machines.
pub const PAGES: u32 = 1 << 14;

/// The page that is read as this one, in an order that no prefetcher knows.
pub const fn page_of(number: u64) -> u32 {
    ((number as u32).wrapping_mul(0x9E37_79B1) >> 8) % PAGES
}

/// The first and the last word of a page, which are the same.
pub const fn mark_of(page: u32) -> u64 {
    (page as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Fills memory with pages of known content.
pub fn fill(memory: &mut [u8]) {
    for (number, page) in memory.chunks_exact_mut(PAGE as usize).enumerate() {
        page.fill(number as u8);
        let mark = mark_of(number as u32).to_le_bytes();
        page[..8].copy_from_slice(&mark);
        page[PAGE as usize - 8..].copy_from_slice(&mark);
    }
}

/// Whether these bytes are that page, as far as its first and last word say.
#[inline]
pub fn is_page(bytes: &[u8], page: u32) -> bool {
    let mark = mark_of(page).to_le_bytes();
    bytes.len() == PAGE as usize && bytes[..8] == mark && bytes[PAGE as usize - 8..] == mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_ends() {
        let mut memory = vec![0; 3 * PAGE as usize];
        fill(&mut memory);
        let page = |number: usize| &memory[number * PAGE as usize..(number + 1) * PAGE as usize];
        for number in 0..3 {
            assert!(is_page(page(number), number as u32));
            assert!(!is_page(page(number), number as u32 + 1));
        }
        assert!(!is_page(&memory[..8], 0));
    }

    #[test]
    fn reads_go_over_all_the_memory() {
        let mut seen = vec![false; PAGES as usize];
        (0..20 * u64::from(PAGES)).for_each(|number| seen[page_of(number) as usize] = true);
        assert!(seen.iter().filter(|seen| **seen).count() > PAGES as usize * 9 / 10);
    }
}
