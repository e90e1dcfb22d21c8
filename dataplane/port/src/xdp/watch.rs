//! The thread that follows an interface's addresses, so that poll loops do not.

use crate::addresses::{AddressTable, Addresses, MAX_ADDRESSES, Shown};
use crate::neighbour::netlink::{self, Netlink};
use crate::neighbour::{ResolverError, bell, ring, silence, wait};
use crate::xdp::{Interface, XdpError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// Follows the addresses of one interface, on a thread of its own. Dropping it ends the thread.
pub struct Watcher {
    shown: Arc<Shown>,
    end: Arc<AtomicBool>,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Reads the addresses, and starts the thread in the network namespace of the caller.
    ///
    /// `changed` is called on that thread after any interface of the namespace changed, with what this one has now; also
    /// when that is what it had. Poll loops then know it already. Before all else the thread calls `prepare`, which may give up
    /// what neither needs: here that is netlink, a socket, and the calls that read what an interface has.
    ///
    /// # Errors
    /// There is no netlink socket, or no thread, or `prepare` failed.
    pub fn start(
        interface: &Interface,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        mut changed: impl FnMut(&AddressTable) + Send + 'static,
    ) -> Result<Self, ResolverError> {
        let failed = |action| move |source| ResolverError { action, source };
        let bell = Arc::new(bell().map_err(failed("make an eventfd"))?);
        let changes = netlink::changes(libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR)
            .map_err(failed("listen to changes of addresses"))?;
        let mut netlink = Netlink::open().map_err(failed("open a netlink socket"))?;
        let addresses = netlink.addresses(interface.index).map_err(failed("read addresses"))?;
        let mut table = AddressTable::new(interface.mac, &addresses);
        complain(&interface.name, &addresses);
        let shown = Shown::new(table.clone());
        let end = Arc::new(AtomicBool::new(false));
        let (theirs, ended, rung, interface) =
            (Arc::clone(&shown), Arc::clone(&end), Arc::clone(&bell), interface.clone());
        let (tell, prepared) = mpsc::sync_channel(1);
        let body = move || {
            let result = prepare();
            let failed = result.is_err();
            if tell.send(result).is_err() || failed {
                return;
            }
            loop {
                wait(&[rung.as_fd(), changes.as_fd()], -1);
                silence(rung.as_fd());
                netlink::discard(changes.as_fd());
                if ended.load(Ordering::Acquire) {
                    return;
                }
                // Gone, or another one by that name: what it had stays, and the queues say what happened.
                let Some((mac, addresses)) = read(&mut netlink, &interface) else { continue };
                if table.update(mac, &addresses) {
                    tracing::info!("{} has other addresses now: {table}", interface.name);
                    complain(&interface.name, &addresses);
                    theirs.show(&table);
                }
                changed(&table);
            }
        };
        let thread = std::thread::Builder::new().name("addresses".to_owned()).spawn(body);
        let watcher = Self { shown, end, bell, thread: Some(thread.map_err(failed("start a thread"))?) };
        match prepared.recv() {
            Ok(result) => result.map_err(failed("confine its thread"))?,
            Err(mpsc::RecvError) => return Err(failed("start its thread")(io::Error::other("it panicked"))),
        }
        Ok(watcher)
    }

    /// The addresses for one poll loop, which answers at this UDP port.
    pub fn addresses(&self, udp_port: u16) -> Addresses {
        Addresses::new(Arc::clone(&self.shown), udp_port)
    }

    /// The addresses now.
    pub fn table(&self) -> AddressTable {
        self.shown.table()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        ring(self.bell.as_fd());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// What the interface has now; `None` when it is not there any more, or the kernel did not answer.
fn read(netlink: &mut Netlink, interface: &Interface) -> Option<([u8; 6], Vec<[u8; 4]>)> {
    let addresses = match netlink.addresses(interface.index) {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::warn!("{}: cannot read its addresses: {error}", interface.name);
            return None;
        }
    };
    let now: Result<Interface, XdpError> = Interface::find(&interface.name);
    let now = now.ok().filter(|now| now.index == interface.index)?;
    Some((now.mac, addresses))
}

fn complain(ifname: &str, addresses: &[[u8; 4]]) {
    if addresses.len() > MAX_ADDRESSES {
        tracing::warn!(
            "{ifname} has {} IPv4 addresses, and gvm-dp uses the first {MAX_ADDRESSES}: datagrams to the others stay with \
             the kernel; take away what is not needed, with `ip address del`",
            addresses.len()
        );
    }
}
