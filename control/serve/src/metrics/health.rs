//! `/live` and `/ready`: the health checks of an orchestrator.

use crate::board::Board;
use lcore::watchdog::Stage;
use port::watch::Link;

/// Why the process is not live: lcores that stand still. Empty if it is live.
pub fn not_live(board: &Board) -> Vec<String> {
    let standing = board.lcores().iter().filter(|lcore| lcore.is_standing());
    standing.map(|lcore| format!("lcore {} stands still {}", lcore.view.index, lcore.view.pulse.stage())).collect()
}

/// Why the process cannot take traffic. Empty if it is ready.
pub fn not_ready(board: &Board) -> Vec<String> {
    let mut reasons = not_live(board);
    if board.is_draining() {
        reasons.push("the process drains".to_owned());
    }
    reasons.extend(board.changes.all().into_iter().filter(|change| change.loses).map(|change| change.text));
    for lcore in board.lcores() {
        match lcore.view.pulse.stage() {
            Stage::Starting => reasons.push(format!("lcore {} does not poll yet", lcore.view.index)),
            Stage::Stopped => reasons.push(format!("lcore {} has ended", lcore.view.index)),
            _ => {}
        }
        for port in &lcore.view.ports {
            let mut state = (1, 0);
            port.counters.visit(&mut |name, _, value| match name {
                "link_up" => state.0 = value,
                "vanished" => state.1 = value,
                _ => {}
            });
            let what = match (state, port.about.link()) {
                ((_, 1..), _) => "the interface has vanished",
                ((0, _), Some(Link::NoCarrier)) => "the link is down: the interface has no carrier",
                ((0, _), Some(Link::Gone)) => "the link is down: no interface has its address any more",
                ((0, _), _) => "the link is down",
                _ => continue,
            };
            let description = port.about.describe();
            reasons.push(format!("port {} of lcore {} ({description}): {what}", port.id.0, lcore.view.index));
        }
    }
    reasons
}
