//! `gvm-dp drain`: a running process hands over everything it holds, and ends.

use super::Target;
use crate::args::NameArgs;
use common::exit::Failure;
use common::output::print;
use common::sockets::check_peer;
use hyper::Method;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a process may take to end. It ends by itself before that, since each step of its end has a bound. The value
/// is that of TimeoutStopSec in the systemd unit.
const PATIENCE: Duration = Duration::from_secs(45);

/// Tells the process to drain, and waits until it has ended.
///
/// # Errors
/// It fails as [`Target::find`] and [`Target::request`] do. The error is [`Failure::Lost`] when the process still runs
/// after 45 seconds. It is [`Failure::Output`] when stdout does not take the text.
pub fn run(args: &NameArgs) -> Result<(), Failure> {
    let target = Target::find(args)?;
    target.request(Method::POST, "/v1/drain")?;
    let began = Instant::now();
    // A process of an untrusted user behind this socket is not the process that was told.
    let is_there = || UnixStream::connect(&target.socket).is_ok_and(|it| check_peer(&it, &target.socket).is_ok());
    while is_there() {
        if began.elapsed() > PATIENCE {
            return Err(Failure::Lost(format!("\"{}\" still drains after {} s", target.name, PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    print(&format!("{}: drained\n", target.name)).map(drop)
}
