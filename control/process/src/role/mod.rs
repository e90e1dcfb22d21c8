//! The process of each role: how it is assembled, and what the control thread does for it.

pub mod disk;
pub mod gateway;
pub mod master;
pub mod slave;

use crate::assemble::Started;
use crate::assemble::devices::Devices;
use crate::assemble::ports::Ports;
use crate::supervise::changes::MachineWatch;
use crate::supervise::live::LiveSettings;
use crate::supervise::{self, Parts, RoleControl};
use ::slave::FarmEvent;
use common::exit::Failure;
use common::units::Duration;
use lcore::Clock;
use serve::board::{Board, LcoreBoard};
use serve::metrics::MetricsListener;
use serve::socket::ControlSocket;
use settings::RunningSettings;
use settings::config::Common;
use tokio::sync::mpsc;

/// What every process has before its ports are opened.
struct Start {
    clock: Clock,
    socket: ControlSocket,
    metrics: Option<MetricsListener>,
}

impl Start {
    /// Claims the control socket and the address for metrics, so that a second process of the same name ends here.
    fn new(common: &Common) -> Result<Self, Failure> {
        let clock = Clock::start();
        let socket = ControlSocket::claim(&common.name)?;
        let metrics = common.metrics.map(MetricsListener::bind).transpose()?;
        Ok(Self { clock, socket, metrics })
    }
}

/// A role that polls, and what its control thread needs.
struct Polling<C> {
    start: Start,
    ports: Ports,
    lcores: Vec<Started<C>>,
    /// Hears of each lcore's end.
    ended: mpsc::UnboundedReceiver<u16>,
    board: Board,
    role: RoleControl,
    /// What a farm reports.
    reports: mpsc::Receiver<FarmEvent>,
    /// The largest IP packet of each port, in bytes.
    port_mtus: Vec<u16>,
}

impl<C> Polling<C> {
    /// Runs the control thread until every lcore has ended, then closes the ports.
    fn supervise(self, common: &Common, settings: RunningSettings) -> Result<(), Failure> {
        let Self { start, ports, lcores, ended, mut board, role, reports, port_mtus } = self;
        let devices = Devices::of(&ports);
        (board.interfaces, board.devices) = (devices.interfaces(), devices.devices());
        let result = supervise::run(Parts {
            role,
            lcores: lcores.into_iter().map(|Started { running, .. }| running).collect(),
            ended,
            board,
            devices,
            socket: start.socket,
            metrics: start.metrics,
            reports,
            confinement: ports.confinement.clone(),
            settings: LiveSettings::new(settings),
            watch: MachineWatch::new(common, port_mtus),
        });
        ports.close();
        result
    }
}

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
