//! Which settings change while a process runs. How each of them reaches the poll loops is in
//! `process::supervise::live`.

/// The settings that can be changed while a process runs. A role has those of them that it has as flags.
pub const LIVE: [&str; 6] = ["hold", "early", "rx-mode", "log", "traffic", "keep-free"];

/// Whether a setting can be changed while the process runs.
pub fn is_live(name: &str) -> bool {
    LIVE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, RoleName};
    use crate::running::KEY_FILES;

    #[test]
    fn what_is_live_is_a_setting_of_some_role() {
        for name in LIVE {
            assert!(RoleName::ALL.iter().any(|role| Catalog::of(*role).find(name).is_some()), "{name}");
        }
        for name in KEY_FILES {
            assert!(Catalog::of(RoleName::Slave).find(name).is_some() && !is_live(name), "{name}");
        }
    }
}
