//! Doorbells that loom can see.

use loom::sync::{Condvar, Mutex};
use std::os::fd::BorrowedFd;

/// A doorbell. The right kind keeps a ring until the receiver takes it back, as an eventfd does. The faulty kind
/// reaches only receivers that sleep already.
pub(crate) struct ModelBell {
    rung: Mutex<bool>,
    heard: Condvar,
    keeps: bool,
}

impl ModelBell {
    pub(crate) fn new(keeps: bool) -> Self {
        Self { rung: Mutex::new(false), heard: Condvar::new(), keeps }
    }

    /// Sleeps until the bell rings, as `ppoll` without a timeout does.
    pub(crate) fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        if self.keeps {
            while !*rung {
                rung = self.heard.wait(rung).unwrap();
            }
        } else {
            drop(self.heard.wait(rung).unwrap());
        }
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }

    fn silence(&self) {
        *self.rung.lock().unwrap() = false;
    }
}

macro_rules! bell_for {
    ($($mailbox:ident),*) => {$(
        impl crate::loom::$mailbox::mailbox::Bell for ModelBell {
            fn ring(&self) {
                self.ring();
            }

            fn silence(&self) {
                self.silence();
            }

            fn descriptor(&self) -> Option<BorrowedFd<'_>> {
                None
            }
        }
    )*};
}

bell_for!(sound, unfenced);
