//! A server with a master that has no slaves, each on a thread of its own.

use applications::{
    ApplicationLimits, ApplicationServer, ApplicationSocket, LcoreEnds, MasterHandle, Register, Stopper,
};
use frame::{Hugepages, Outbox, Peer, Pool, PoolConfig, PortId, Role};
use lcore::Clock;
use lcore::bells::Bells;
use lcore::mailbox::{self, Receiver};
use master::{Master, MasterConfig, MasterServer, ServingCommand};
use pages::{Client, ClientOptions, PagesError};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const LIMITS: ApplicationLimits =
    ApplicationLimits { clients: 3, capacity: 64, buffers: 1 << 20, extents: 8 };

pub(crate) struct World {
    directory: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) stopper: Stopper,
    pub(crate) register: Register,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _socket: ApplicationSocket,
}

impl World {
    pub(crate) fn start(name: &str) -> Self {
        Self::with_lcores(name, 1)
    }

    /// With a master on each of so many lcores.
    pub(crate) fn with_lcores(name: &str, lcores: u16) -> Self {
        let directory = std::env::temp_dir().join(format!("gvm-applications-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("m.pages");
        let socket = ApplicationSocket::bind(&path, None).unwrap();
        let clock = Clock::start();
        let (server, handles) = ApplicationServer::new(&socket, LIMITS, clock, lcores.into()).unwrap();
        let (stopper, register) = (server.stopper(), server.register().clone());
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut ends) = (Vec::new(), Vec::new());
        for handle in handles {
            let bells = Bells::new().unwrap();
            let (commands, orders) = mailbox::mailbox_with(64, Arc::new(bells.clone()));
            ends.push(LcoreEnds { bells, commands });
            let stopped = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || serve(&handle, clock, orders, &stopped)));
        }
        threads.push(std::thread::spawn(move || server.run(&ends)));
        Self { directory, path, stopper, register, stop, threads, _socket: socket }
    }

    pub(crate) fn options(name: &str) -> ClientOptions {
        ClientOptions { name: name.to_owned(), ..ClientOptions::default() }
    }

    pub(crate) fn connect(&self, name: &str) -> Result<Client, PagesError> {
        Client::connect(&self.path, &Self::options(name))
    }

    /// The names of the applications that have a channel.
    pub(crate) fn names(&self) -> Vec<String> {
        self.register.list().iter().map(|entry| entry.name.clone()).collect()
    }
}

/// A master that polls until it is stopped.
fn serve(handle: &MasterHandle, clock: Clock, mut orders: Receiver<ServingCommand>, stopped: &AtomicBool) {
    let gateway = Peer::socket(PortId(0), "192.0.2.1:9999".parse().unwrap());
    let config = MasterConfig {
        clients: LIMITS.clients,
        requests: 256,
        // Nobody lends anything here: it says so soon.
        allocate_within: 20_000_000,
        ..MasterConfig::new(1, vec![gateway])
    };
    let master = Master::new(config, clock.now(), handle.master_events()).unwrap();
    let mut serving = MasterServer::new(master, LIMITS.clients, handle.serving_events());
    let pool = PoolConfig { frames: 256, chunk: 2048, hugepages: Hugepages::Never, reserve: 16 };
    let mut out = Outbox::new(Pool::new(pool).unwrap(), 1);
    while !stopped.load(Ordering::Acquire) {
        let now = clock.now();
        while let Some(order) = orders.try_recv() {
            serving.command(now, order, &mut out);
        }
        serving.advance(now, &mut out);
        while out.queue(PortId(0)).is_some_and(|queue| queue.take().is_some()) {}
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Waits until `condition` is true; a minute is for ever.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stopper.stop();
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A test that failed for another reason shows that one.
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
