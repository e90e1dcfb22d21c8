//! Messages to the service manager (`sd_notify`): ready, the current work, still alive, about to end.
//!
//! systemd names a datagram socket in `NOTIFY_SOCKET`: a path, or an abstract name after `@`. Without that variable no
//! message is sent. A message that cannot be sent is lost: the manager waits for it, and reports that itself.

use frame::Time;
use frame::time::MICROSECOND;
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The socket of the service manager, if there is one.
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Time between two keep-alive messages, in nanoseconds.
    every: Option<u64>,
    alive_at: Time,
    status: String,
}

impl Notifier {
    /// Reads the environment.
    pub fn from_env() -> Self {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| of(name).and_then(|value| value.into_string().ok());
        let watchdog = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref());
        Self::new(of("NOTIFY_SOCKET").as_deref(), watchdog)
    }

    /// Uses this socket, and sends two keep-alive messages in `watchdog` nanoseconds.
    fn new(socket: Option<&OsStr>, watchdog: Option<u64>) -> Self {
        let to = socket.and_then(|name| match connect(name) {
            Ok(to) => Some(to),
            Err(error) => {
                tracing::warn!("cannot speak to the service manager at {}: {error}", name.display());
                None
            }
        });
        Self { every: watchdog.filter(|_| to.is_some()).map(|nanos| nanos / 2), to, alive_at: 0, status: String::new() }
    }

    /// Says that all lcores poll.
    pub fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Says what the process is doing, if that changed.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.say(&format!("STATUS={status}\n"));
        }
    }

    /// Says that the configuration was read again.
    pub fn reloaded(&self) {
        self.say("READY=1\n");
    }

    /// Says that the configuration is being read again; [`Notifier::reloaded`] ends this state.
    pub fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// Says that the process is about to end.
    pub fn stopping(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.say(&format!("STOPPING=1\nSTATUS={status}\n"));
    }

    /// Sends a keep-alive message if one is due and the process is well.
    pub fn alive(&mut self, now: Time, well: bool) {
        if let Some(every) = self.every
            && now >= self.alive_at
            && well
        {
            self.alive_at = now + every;
            self.say("WATCHDOG=1\n");
        }
    }

    /// When the next keep-alive message is due.
    pub fn due(&self) -> Time {
        self.every.map_or(Time::MAX, |_| self.alive_at)
    }

    fn say(&self, message: &str) {
        if let Some((socket, manager)) = &self.to
            && let Err(error) = socket.send_to_addr(message.as_bytes(), manager)
        {
            tracing::debug!("the service manager does not hear \"{}\": {error}", message.trim_end());
        }
    }
}

/// The interval in which the manager expects a keep-alive message, in nanoseconds. `None` if it is meant for another
/// process.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<u64> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    usec?.parse::<u64>().ok().filter(|usec| is_ours && *usec > 0)?.checked_mul(MICROSECOND)
}

fn connect(name: &OsStr) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not block the registrar.
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::time::MILLISECOND;
    use std::os::fd::AsFd;

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let len = manager.recv(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    fn manager(name: &str) -> UnixDatagram {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        manager
    }

    #[test]
    fn an_abstract_socket_hears_each_thing_once() {
        let name = format!("gvm-dp-notify-{}", std::process::id());
        let manager = manager(&name);
        let mut notifier = Notifier::new(Some(OsStr::new(&format!("@{name}"))), Some(100 * MILLISECOND));
        assert!(
            rustix::io::fcntl_getfd(notifier.to.as_ref().unwrap().0.as_fd())
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        notifier.ready("2 lcores");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=2 lcores\n");
        notifier.status("2 lcores");
        notifier.status("3 slaves");
        assert_eq!(heard(&manager), "STATUS=3 slaves\n");
        // No message while an lcore stands still, and one at once when it moves again.
        let second = 1000 * MILLISECOND;
        notifier.alive(second, false);
        assert_eq!(heard(&manager), "");
        notifier.alive(second, true);
        assert_eq!((heard(&manager).as_str(), notifier.due()), ("WATCHDOG=1\n", second + 50 * MILLISECOND));
        notifier.alive(second + 49 * MILLISECOND, true);
        assert_eq!(heard(&manager), "");
        notifier.reloading();
        let said = heard(&manager);
        let micros = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end().parse::<u64>().unwrap();
        assert!(micros > 0);
        notifier.stopping("draining");
        assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_nothing_fails() {
        for socket in [None, Some("/no/such/socket"), Some("@")] {
            let mut notifier = Notifier::new(socket.map(OsStr::new), None);
            notifier.ready("x");
            notifier.alive(0, true);
            assert_eq!(notifier.due(), Time::MAX);
        }
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("2000"), None), Some(2 * MILLISECOND));
        assert_eq!(watchdog(Some("2000"), Some(&own)), Some(2 * MILLISECOND));
        assert_eq!(watchdog(Some("2000"), Some("1")), None);
        for usec in [None, Some("0"), Some("x"), Some("99999999999999999999")] {
            assert_eq!(watchdog(usec, None), None);
        }
    }
}
