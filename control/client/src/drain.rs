//! `gvm-dp drain`: a running process hands over everything it holds, and ends.

use super::{Target, lending};
use crate::args::NameArgs;
use api::lending::LendingStats;
use api::stats::Stats;
use common::exit::Failure;
use common::output::print;
use common::sockets::check_peer;
use hyper::Method;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a process may take to end. It ends by itself before that, since each step of its end has a bound. The value
/// is that of TimeoutStopSec in the systemd unit. What a slave gives masters to give memory back comes in addition.
const PATIENCE: Duration = Duration::from_secs(45);

/// How often a process that lends memory is asked for its progress.
const LOOK: Duration = Duration::from_secs(1);

/// Tells the process to drain, and waits until it has ended. While masters have memory of a slave, it prints how much.
///
/// # Errors
/// It fails as [`Target::find`] and [`Target::request`] do. The error is [`Failure::Lost`] when the process still runs
/// after 45 seconds, and those that masters have to give memory back. It is [`Failure::Output`] when stdout does not
/// take the text.
pub fn run(args: &NameArgs) -> Result<(), Failure> {
    let target = Target::find(args)?;
    target.request(Method::POST, "/v1/drain")?;
    let began = Instant::now();
    let mut patience = PATIENCE;
    let (mut look_at, mut said) = (began, None);
    // A process of an untrusted user behind this socket is not the process that was told.
    let is_there = || UnixStream::connect(&target.socket).is_ok_and(|it| check_peer(&it, &target.socket).is_ok());
    while is_there() {
        if began.elapsed() > patience {
            return Err(Failure::Lost(format!("\"{}\" still drains after {} s", target.name, patience.as_secs())));
        }
        if Instant::now() >= look_at {
            look_at = Instant::now() + LOOK;
            // A process that is about to end does not answer any more.
            if let Some(lent) = lent(&target).filter(|lent| lent.leased > 0) {
                let left = Duration::try_from_secs_f64(lent.drain_seconds.unwrap_or(0.0)).unwrap_or_default();
                patience = patience.max(began.elapsed() + left + PATIENCE);
                if let Some(text) = lending::waits(&lent)
                    && said.replace(lent.leased) != Some(lent.leased)
                {
                    print(&format!("{}: {text}\n", target.name))?;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    print(&format!("{}: drained\n", target.name)).map(drop)
}

/// What the process lends, if it lends memory and answers.
fn lent(target: &Target) -> Option<LendingStats> {
    let body = target.request(Method::GET, "/v1/stats").ok()?;
    target.read::<Stats>(&body).ok()?.lending
}
