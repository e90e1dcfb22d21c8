//! What stands between a reading and a serving end.

use frame::{Burst, Class, Outbox, Peer, PortId, Role, Time};
use gateway::{Gateway, GatewayCommand};

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relaying {
    /// The gateway.
    Gateway,
    /// Something that looks at nothing: it writes new headers in place and sends.
    Bare,
}

/// Commands for a relay.
#[derive(Debug)]
pub enum RelayOrder {
    /// From now on this one forwards.
    Use(Relaying),
    /// For the gateway.
    Gateway(GatewayCommand),
}

/// A gateway, and a bare forwarder beside it.
pub struct Relay {
    gateway: Gateway,
    which: Relaying,
    /// Where packets of each port go.
    to: [Peer; 2],
}

impl Relay {
    /// A gateway that forwards by its routes. The bare forwarder sends what comes in at port 0 to the first peer, and
    /// what comes in at port 1 to the second.
    pub fn new(gateway: Gateway, to: [Peer; 2]) -> Self {
        Self { gateway, which: Relaying::Gateway, to }
    }
}

impl Role for Relay {
    type Command = RelayOrder;

    fn receive(&mut self, now: Time, port: PortId, burst: &mut Burst, out: &mut Outbox) {
        match self.which {
            Relaying::Gateway => self.gateway.receive(now, port, burst, out),
            Relaying::Bare => {
                let is_up = usize::from(port.0 != 0);
                for mut datagram in burst.drain() {
                    datagram.peer = self.to[is_up];
                    datagram.class = if is_up == 0 { Class::Down } else { Class::Up };
                    datagram.records = 1;
                    out.send(datagram);
                }
            }
        }
    }

    fn advance(&mut self, now: Time, out: &mut Outbox) {
        if self.which == Relaying::Gateway {
            self.gateway.advance(now, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.which {
            Relaying::Gateway => self.gateway.deadline(),
            Relaying::Bare => None,
        }
    }

    fn command(&mut self, now: Time, order: RelayOrder, out: &mut Outbox) {
        match order {
            RelayOrder::Use(which) => self.which = which,
            RelayOrder::Gateway(command) => self.gateway.command(now, command, out),
        }
    }

    fn is_drained(&self) -> bool {
        self.gateway.is_drained()
    }

    fn frames_held(&self) -> usize {
        self.gateway.frames_held()
    }
}
