//! Warnings for the operator, the worst first.

use super::port::PortLink;
use super::process::Rates;
use crate::format::{grouped, si};
use api::stats::{CUT_OFF, InterfaceStats, Stats};
use port::headers::{SOURCE_REMEDY, VLAN_REMEDY, partial_checksum_remedy};
use port::spec::XdpMode;
use std::fmt;

/// Share of free frames below which a pool is nearly empty.
const FEW_FREE: f64 = 1.0 / 16.0;

/// How severe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Cargo is lost or does not move now.
    Alarm,
    /// Something is not as it should be.
    Warning,
    /// Useful information.
    Note,
}

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// How severe it is.
    pub severity: Severity,
    /// What happened, and what to check.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Alarm => "!!",
            Severity::Warning => " !",
            Severity::Note => " *",
        };
        write!(f, "{mark} {}", self.text)
    }
}

/// All warnings about a process, the worst first.
pub fn all(now: &Stats, rates: &Rates) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut say = |severity, text: String| found.push(Warning { severity, text });
    for lcore in &rates.lcores {
        let index = lcore.index;
        if lcore.standing {
            say(
                Severity::Alarm,
                format!("lcore {index} stands still {}: is another program on its core?", lcore.stage),
            );
        }
        let few = lcore.frames > 0 && (lcore.frames_free as f64) < lcore.frames as f64 * FEW_FREE;
        if few {
            let (free, all) = (lcore.frames_free, lcore.frames);
            say(
                Severity::Alarm,
                format!("lcore {index} has {free} of {all} frames left: more --frames, or a stuck port"),
            );
        }
        if lcore.paused > 0.0 {
            let paused = si(lcore.paused);
            say(
                Severity::Warning,
                format!("lcore {index} paused receiving in {paused} polls/s: its ports send too slowly"),
            );
        }
        if lcore.delayed > 0.0 {
            let delayed = si(lcore.delayed);
            say(Severity::Warning, format!("lcore {index}: link control waits for the registrar, {delayed} times/s"));
        }
    }
    for change in &now.changes {
        say(if change.loses { Severity::Alarm } else { Severity::Warning }, change.text.clone());
    }
    for port in &rates.ports {
        let name = format!("port {} of lcore {} ({})", port.id, port.lcore, port.name);
        match port.link {
            PortLink::Gone => {
                say(Severity::Alarm, format!("{name}: the interface has vanished: restart when it is back"))
            }
            PortLink::Down => say(Severity::Alarm, format!("{name}: the link is down")),
            PortLink::Up | PortLink::Unknown => {}
        }
        for (counter, rate, _) in port.losses.iter().filter(|(_, rate, _)| *rate > 0.0) {
            let remedy = match &**counter {
                "rx_dropped_partial_checksum" => format!(": {}", checksum_remedy(now, port.id)),
                "rx_dropped_vlan" => format!(": {VLAN_REMEDY}"),
                "rx_dropped_source" => format!(": {SOURCE_REMEDY}"),
                _ => String::new(),
            };
            say(Severity::Alarm, format!("{name}: {counter} {}/s{remedy}", si(*rate)));
        }
    }
    for verdict in rates.verdicts.iter().filter(|verdict| verdict.rate > 0.0) {
        let remedy = match verdict.what.split_whitespace().last() {
            Some("drop_vlan") => VLAN_REMEDY,
            Some("drop_source") => SOURCE_REMEDY,
            _ => continue,
        };
        say(Severity::Warning, format!("xdp:{} {}/s: {remedy}", verdict.what, si(verdict.rate)));
    }
    for drop in rates.drops.iter().filter(|drop| drop.rate > 0.0) {
        say(Severity::Alarm, format!("records dropped {}: {}/s", drop.what, si(drop.rate)));
    }
    for refusal in rates.refused.iter().filter(|refusal| refusal.rate > 0.0) {
        say(Severity::Warning, format!("heartbeats refused as {}: {}/s", refusal.what, si(refusal.rate)));
    }
    if let Some(members) = now.membership.filter(|members| members.suspect > 0) {
        say(Severity::Warning, format!("{} slaves are suspect: they fell silent at once; a cable?", members.suspect));
    }
    if let Some(disk) = &now.disk {
        if !disk.master_connected {
            say(Severity::Alarm, format!("no master answers at {}: what was written is lost", disk.master));
        }
        if disk.lost_bytes > 0 {
            let lost = grouped(disk.lost_bytes >> 10);
            say(
                Severity::Alarm,
                format!("{lost} KiB of the disk are lost: READs of them fail until they are written or trimmed"),
            );
        }
    }
    for (error, rate, _) in rates.disk.iter().flat_map(|disk| &disk.failed).filter(|(_, rate, _)| *rate > 0.0) {
        say(Severity::Warning, format!("requests of the disk's clients end with {error}: {}/s", si(*rate)));
    }
    for interface in &now.interfaces {
        let InterfaceStats { name, asked, mode, why_copy, .. } = interface;
        let cut_off = format!("{name} {CUT_OFF}");
        let cut_off = rates.verdicts.iter().find(|verdict| verdict.what == cut_off && verdict.rate > 0.0);
        if let Some((verdict, text)) = cut_off.zip(interface.cut_off_text()) {
            say(Severity::Alarm, format!("xdp:{name}: {} packets/s {text}", si(verdict.rate)));
        }
        if (asked == "auto" || asked == "zc") && mode.starts_with("copy") {
            let why = why_copy.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            say(Severity::Note, format!("xdp:{name} runs in copy mode (asked for {asked}){why}"));
        }
    }
    let control = now.total.get("control");
    if let Some(times) = control.and_then(|set| set.get("invariants_broken")).filter(|times| **times > 0) {
        let text = format!(
            "what cannot happen happened {times} times: this is a fault of gvm-dp, please report it with the log and \
             `gvm-dp \
             stats --json`"
        );
        say(Severity::Warning, text);
    }
    if let Some(lines) = control.and_then(|set| set.get("log_lines_dropped")).filter(|lines| **lines > 0) {
        say(
            Severity::Note,
            format!(
                "{lines} lines of the log were lost: what reads its stderr is too slow, away, or out of disk space"
            ),
        );
    }
    if now.state != "running" {
        say(Severity::Note, format!("the process is {}", now.state));
    }
    if rates.since_start {
        say(Severity::Note, "started a moment ago: rates are those since the start".to_owned());
    }
    found.sort_by_key(|warning| warning.severity);
    found
}

/// What to do about unfinished checksums on a port.
fn checksum_remedy(now: &Stats, port: u8) -> &'static str {
    let interface = now.interfaces.iter().find(|interface| interface.port == port);
    let device = now.devices.iter().find(|device| device.port == port);
    let driver = interface.map(|interface| &interface.driver).or(device.map(|device| &device.driver));
    let generic = interface.is_some_and(|interface| interface.asked == XdpMode::Skb.to_string());
    partial_checksum_remedy(driver.map_or("", String::as_str), generic)
}
