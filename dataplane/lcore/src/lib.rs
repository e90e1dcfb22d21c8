//! The poll loop: pinning, clock, waiting, mailboxes, watchdog.
