//! A replayer: it sends recorded datagrams again from its own socket.

use crate::pcapng::{Datagram, datagrams};
use anyhow::{Context, ensure};
use clap::Args as Flags;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::{MsgType, Record};

#[derive(Flags)]
pub(crate) struct Args {
    /// Where heartbeats go; answers go to the nodes that they were for
    #[arg(long, value_name = "ADDR:PORT")]
    gateway: SocketAddr,
    /// What was recorded, by gvm-dp capture
    #[arg(long, value_name = "FILE")]
    capture: PathBuf,
    /// Datagrams a second
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Where the result goes, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: PathBuf,
}

/// What was sent, and what came back.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Replay {
    pub heartbeats: u64,
    pub heartbeat_bytes: u64,
    pub answers: u64,
    pub came_back: u64,
    pub came_back_bytes: u64,
}

fn is_heartbeat(datagram: &Datagram) -> bool {
    Record::first(&datagram.payload).is_ok_and(|record| record.header().msg_type() == MsgType::HEARTBEAT)
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Replay> {
    let file = fs::read(&args.capture).with_context(|| args.capture.display().to_string())?;
    let recorded = datagrams(&file);
    let heartbeats = recorded.iter().filter(|datagram| is_heartbeat(datagram)).count();
    ensure!(heartbeats > 0, "{}: no heartbeat in {} datagrams", args.capture.display(), recorded.len());
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let (began, length) = (Instant::now(), Duration::from_secs_f64(args.seconds));
    let (mut done, mut sent, mut buffer) = (Replay::default(), 0, [0; 65_536]);
    let mut turn = recorded.iter().cycle();
    while began.elapsed() < length {
        let due = (began.elapsed().as_secs_f64() * args.rate as f64) as u64;
        while sent < due {
            let Some(datagram) = turn.next() else { break };
            sent += 1;
            let is_heartbeat = is_heartbeat(datagram);
            let to = if is_heartbeat { args.gateway } else { datagram.to.into() };
            if socket.send_to(&datagram.payload, to).is_err() {
                continue;
            }
            if is_heartbeat {
                done.heartbeats += 1;
                done.heartbeat_bytes += datagram.payload.len() as u64;
            } else {
                done.answers += 1;
            }
        }
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        while let Ok(len) = socket.recv(&mut buffer) {
            done.came_back += 1;
            done.came_back_bytes += len as u64;
        }
    }
    Ok(done)
}
