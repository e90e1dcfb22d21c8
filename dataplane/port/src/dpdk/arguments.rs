//! The arguments with which EAL is started.

/// The settings of this process for DPDK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentConfig {
    /// The PCI devices that it may use, with the arguments for their drivers. Without any it never touches PCI.
    pub pci: Vec<String>,
    /// Whether there are hugepages for its own memory. Otherwise it uses ordinary pages, and devices with DMA do not
    /// work well.
    pub hugepages: bool,
    /// The memory that it needs beside the arenas, in MiB: allocated at the start.
    pub memory: u32,
    /// The cores that its own threads may use; if empty, all of the process's cores.
    pub cores: Vec<usize>,
}

impl EnvironmentConfig {
    /// EAL's command line.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut all = vec!["gvm-dp".to_owned()];
        let mut say = |argument: String| all.push(argument);
        if !self.cores.is_empty() {
            // EAL gets one lcore, the device thread; our own lcores are registered.
            let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
            say(format!("--lcores=0@({})", cores.join(",")));
        }
        // Devices use the addresses of the process, so that they can use an arena directly.
        say("--iova-mode=va".to_owned());
        say("--file-prefix=gvm-dp".to_owned());
        say("--no-telemetry".to_owned());
        if self.hugepages {
            say("--in-memory".to_owned());
        } else {
            ["--no-huge", "--no-shconf"].iter().for_each(|argument| say((*argument).to_owned()));
        }
        // All memory at once: missing memory is reported at the start, and not by a queue that finds none left.
        say("-m".to_owned());
        say(self.memory.to_string());
        if self.pci.is_empty() {
            say("--no-pci".to_owned());
        }
        for device in &self.pci {
            say("-a".to_owned());
            say(device.clone());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &EnvironmentConfig) -> String {
        config.arguments().join(" ")
    }

    #[test]
    fn only_named_devices_are_touched() {
        let config =
            EnvironmentConfig { hugepages: true, memory: 64, cores: vec![0, 3], ..EnvironmentConfig::default() };
        let common = "--iova-mode=va --file-prefix=gvm-dp --no-telemetry";
        assert_eq!(line(&config), format!("gvm-dp --lcores=0@(0,3) {common} --in-memory -m 64 --no-pci"));
        let pci = vec!["0000:01:00.0".to_owned(), "0000:01:00.1,dv_flow_en=1".to_owned()];
        let config = EnvironmentConfig { pci, hugepages: true, memory: 64, ..EnvironmentConfig::default() };
        let devices = "-a 0000:01:00.0 -a 0000:01:00.1,dv_flow_en=1";
        assert_eq!(line(&config), format!("gvm-dp {common} --in-memory -m 64 {devices}"));
        let config = EnvironmentConfig { memory: 128, ..EnvironmentConfig::default() };
        assert_eq!(line(&config), format!("gvm-dp {common} --no-huge --no-shconf -m 128 --no-pci"));
    }
}
