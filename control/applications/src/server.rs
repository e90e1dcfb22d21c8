//! The thread that serves the socket.

use crate::lcores::{LcoreEnds, Told};
use crate::limits::ApplicationLimits;
use crate::register::Register;
use crate::running::Running;
use crate::socket::ApplicationSocket;
use lcore::Clock;
use master::{MasterEvent, ServingEvent};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

/// Ends the thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Orders>);

#[derive(Debug)]
struct Orders {
    stop: AtomicBool,
    leaving: AtomicBool,
    wake: OwnedFd,
}

impl Orders {
    fn wake(&self) {
        // Full means that it was rung: the thread wakes.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Stopper {
    /// From now on no application gets a channel or an extent: the master is about to stop.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Release);
        self.0.wake();
    }

    /// Ends the thread, and with it all connections.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.wake();
    }
}

/// Where a master's lcore leaves its events. None of it blocks the lcore.
pub struct MasterHandle {
    lcore: usize,
    orders: Arc<Orders>,
    told: mpsc::Sender<(usize, Told)>,
}

impl MasterHandle {
    /// For [`Master::new`](master::Master::new).
    pub fn master_events(&self) -> impl FnMut(MasterEvent) + Send + 'static {
        let (told, orders, lcore) = (self.told.clone(), Arc::clone(&self.orders), self.lcore);
        move |event| tell(&told, &orders, (lcore, Told::Master(event)))
    }

    /// For [`MasterServer::new`](master::MasterServer::new).
    pub fn serving_events(&self) -> impl FnMut(ServingEvent) + Send + 'static {
        let (told, orders, lcore) = (self.told.clone(), Arc::clone(&self.orders), self.lcore);
        move |event| tell(&told, &orders, (lcore, Told::Serving(event)))
    }
}

fn tell(told: &mpsc::Sender<(usize, Told)>, orders: &Orders, event: (usize, Told)) {
    // Nobody listens only when the process is ending.
    if told.send(event).is_ok() {
        orders.wake();
    }
}

/// The server, before it runs.
pub struct ApplicationServer {
    listener: OwnedFd,
    limits: ApplicationLimits,
    clock: Clock,
    orders: Arc<Orders>,
    told: mpsc::Receiver<(usize, Told)>,
    register: Register,
}

impl ApplicationServer {
    /// A server on this socket, and where each of the lcores, at least one, leaves the events of its master.
    ///
    /// # Errors
    /// The kernel has no descriptor left. The error is the kernel's.
    pub fn new(
        socket: &ApplicationSocket,
        limits: ApplicationLimits,
        clock: Clock,
        lcores: usize,
    ) -> io::Result<(Self, Vec<MasterHandle>)> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let orders = Orders { stop: AtomicBool::new(false), leaving: AtomicBool::new(false), wake };
        let listener = socket.listener().try_clone_to_owned()?;
        let (tell, told) = mpsc::channel();
        let orders = Arc::new(orders);
        let handle = |lcore| MasterHandle { lcore, orders: Arc::clone(&orders), told: tell.clone() };
        let handles = (0..lcores).map(handle).collect();
        Ok((Self { listener, limits, clock, orders, told, register: Register::default() }, handles))
    }

    /// Which applications there are.
    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Ends it later.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.orders))
    }

    /// Serves until it is stopped. `lcores` are as many as the server was made for. An application belongs to one of
    /// them, the one that had the fewest applications when it came.
    pub fn run(self, lcores: &[LcoreEnds]) {
        let mut running = Running::new(self.limits, self.clock, lcores, self.register);
        while !self.orders.stop.load(Ordering::Acquire) {
            running.leaving = self.orders.leaving.load(Ordering::Acquire);
            while let Ok((lcore, event)) = self.told.try_recv() {
                running.event(lcore, event);
            }
            running.send_away_the_slow();
            running.flush();
            running.wait(self.listener.as_fd(), self.orders.wake.as_fd());
        }
    }
}
