//! The process of each role: how it is assembled, and what the control thread does for it.

pub mod gateway;
pub mod slave;

use crate::assemble::Started;
use common::exit::Failure;
use common::units::Duration;
use lcore::Clock;
use serve::board::{Board, LcoreBoard};
use settings::config::Common;

/// The board of a process with these settings and lcores.
fn board<C>(role: &'static str, common: &Common, clock: Clock, lcores: &[Started<C>]) -> Board {
    let lcore = |lcore: &Started<C>| LcoreBoard::new(lcore.running.view().clone(), lcore.counters.clone());
    let board = Board::new(role, common.name.clone(), common.scale, clock, lcores.iter().map(lcore).collect());
    board.settings.insert("rx_mode", common.rx_mode.to_string());
    board.settings.insert("slave_bits", common.scale.slave_bits().to_string());
    board.settings.insert("gw_bits", common.scale.gw_bits().to_string());
    board.settings.insert("heartbeat", Duration(common.interval).to_string());
    board.settings.insert("mtu", common.mtu.map_or_else(|| "that of each port".to_owned(), |mtu| mtu.to_string()));
    board
}

/// Differs in each start, and is not zero. Epochs have no order: clocks may be wrong.
fn epoch() -> Result<u64, Failure> {
    getrandom::u64().map(|epoch| epoch.max(1)).map_err(no_random)
}

/// A secret for this start only.
fn secret() -> Result<[u8; 32], Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(no_random)?;
    Ok(secret)
}

fn no_random(error: getrandom::Error) -> Failure {
    Failure::Machine(format!("no random numbers: {error}"))
}
