//! `gvm-dp drain`: a running process hands over all it holds, and ends.

use super::Target;
use crate::args::NameArgs;
use common::exit::Failure;
use common::output::print;
use common::sockets::check_peer;
use hyper::Method;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a process may drain; it gives up by itself before that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells it to drain, and waits until it has ended.
pub fn run(args: &NameArgs) -> Result<(), Failure> {
    let target = Target::find(args)?;
    target.request(Method::POST, "/v1/drain")?;
    let began = Instant::now();
    // One of another name's owner would not be it.
    let is_there = || UnixStream::connect(&target.socket).is_ok_and(|it| check_peer(&it, &target.socket).is_ok());
    while is_there() {
        if began.elapsed() > PATIENCE {
            return Err(Failure::Lost(format!("\"{}\" still drains after {} s", target.name, PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    print(&format!("{}: drained\n", target.name)).map(drop)
}
