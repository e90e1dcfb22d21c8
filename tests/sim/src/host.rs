//! Roles of the simulated clusters that work with datagrams and not with whole frames.

use crate::rng::Rng;
use frame::time::{FOREVER, MICROSECOND};
use frame::{Burst, Class, Datagram, Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Precedence, Role, Time};
use gateway::{Gateway, GatewayCommand, GatewayConfig};
use link::registrar::Health;
use link::{Registrar, RegistrarConfig, RouteChange, ShardRanges};
use wire::{Scale, ShardSet};

/// A datagram that a role has sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where it goes.
    pub to: Peer,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it has the mark Congestion Experienced.
    pub ce: bool,
}

impl Sent {
    /// A copy of a datagram.
    pub fn new(datagram: &Datagram) -> Self {
        Self { to: datagram.peer, bytes: datagram.frame.data().to_vec(), ce: datagram.ce }
    }
}

/// A role with its frames.
pub struct Host<R> {
    /// The role.
    pub role: R,
    /// What it sends.
    pub out: Outbox,
    /// When it is polled next.
    pub due: Time,
}

impl<R: Role> Host<R> {
    /// A role that is polled at once, with so many frames.
    ///
    /// # Panics
    /// If there is no memory for the frames.
    pub fn new(frames: u32, make: impl FnOnce(&Pool) -> R, now: Time) -> Self {
        let config = PoolConfig { frames, hugepages: Hugepages::Never, ..PoolConfig::default() };
        let pool = Pool::new(config).expect("a small arena can be mapped");
        Self { role: make(&pool), out: Outbox::new(pool, 1), due: now }
    }

    /// A datagram arrives. Without a free frame it is lost: the result is `false`.
    pub fn receive(&mut self, now: Time, from: Peer, bytes: &[u8], ce: bool) -> bool {
        let Some(mut frame) = self.out.alloc_link() else { return false };
        let mut burst = Burst::new();
        if frame.append(bytes) && burst.push(Datagram { ce, ..Datagram::new(frame, from, Class::Up, 0) }).is_ok() {
            self.role.receive(now, PortId(0), &mut burst, &mut self.out);
        }
        self.due = now;
        true
    }

    /// The role is polled, and all that it sends leaves.
    pub fn advance(&mut self, now: Time) -> Vec<Sent> {
        self.work(now);
        self.sent()
    }

    /// The role is polled. What it sends waits in the outbox.
    pub fn work(&mut self, now: Time) {
        self.role.advance(now, &mut self.out);
        self.due = self.role.deadline().unwrap_or(FOREVER).max(now + MICROSECOND);
    }

    /// Gives the role a command.
    pub fn command(&mut self, now: Time, command: R::Command) {
        self.role.command(now, command, &mut self.out);
        self.due = now;
    }

    fn sent(&mut self) -> Vec<Sent> {
        let Some(queue) = self.out.queue(PortId(0)) else { return Vec::new() };
        let sent = std::iter::from_fn(|| queue.take());
        sent.map(|datagram| Sent::new(&datagram)).collect()
    }

    /// Frames are where they are counted.
    ///
    /// # Errors
    /// Some are not.
    pub fn check(&self) -> Result<(), String> {
        let (used, known) = (self.out.pool().in_use() as usize, self.out.frames() + self.role.frames_held());
        if used == known { Ok(()) } else { Err(format!("{used} frames are in use, and {known} are counted")) }
    }
}

/// A gateway with its registrar.
pub struct GatewayHost {
    /// The gateway.
    pub host: Host<Gateway>,
    registrar: Registrar,
}

#[derive(Default)]
struct Replies(Vec<GatewayCommand>);

impl link::Sink for Replies {
    fn reply(&mut self, to: &Peer, datagram: &[u8], _: u16) {
        self.0.push(GatewayCommand::Reply { peer: *to, bytes: datagram.into() });
    }

    fn route(&mut self, change: RouteChange) {
        self.0.push(GatewayCommand::Route(change));
    }
}

impl GatewayHost {
    /// A gateway of all shards, with so many frames.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn new(frames: u32, scale: Scale, now: Time, rng: &mut Rng) -> Self {
        let config = GatewayConfig::new(ShardSet::all(scale));
        let host = Host::new(frames, |pool| Gateway::new(config, pool).expect("small tables"), now);
        let config = RegistrarConfig {
            scale,
            shards: ShardRanges::all(scale),
            epoch: rng.bits().max(1),
            secret: rng.secret(),
            ..RegistrarConfig::default()
        };
        Self { host, registrar: Registrar::new(config, now).expect("right settings") }
    }

    /// Gateway and registrar are polled, and all that they send leaves.
    pub fn advance(&mut self, now: Time) -> Vec<Sent> {
        self.work(now);
        self.host.sent()
    }

    /// Gateway and registrar are polled. What they send waits in the outbox.
    pub fn work(&mut self, now: Time) {
        let mut replies = Replies::default();
        for precedence in Precedence::ALL {
            while let Some(datagram) = self.host.out.next_control(precedence) {
                self.registrar.receive(now, &datagram.peer, datagram.frame.data(), &mut replies);
            }
        }
        self.registrar.advance(now, Health::GOOD, &mut replies);
        replies.0.into_iter().for_each(|command| self.host.command(now, command));
        self.host.work(now);
    }

    /// When they are polled next.
    pub fn due(&self) -> Time {
        let has_control = self.host.out.has_control().then_some(0);
        self.host.due.min(self.registrar.deadline().unwrap_or(FOREVER)).min(has_control.unwrap_or(FOREVER))
    }
}
