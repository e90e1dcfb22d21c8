//! The counters of an lcore, beside those of its role, its ports and its outbox.

use crate::pulse::Stage;

frame::counters! {
    /// The poll loop itself.
    pub struct LcoreCounters {
        /// Polls.
        polls,
        /// Polls in which nothing was received, sent or commanded.
        empty_polls,
        /// Nanoseconds in polls that were not empty.
        busy_ns,
        /// Datagrams received.
        rx_datagrams,
        /// Datagrams that the ports' TX rings took.
        tx_datagrams,
        /// Bursts of one datagram.
        rx_bursts_1,
        /// Bursts of 2 to 7 datagrams.
        rx_bursts_2_to_7,
        /// Bursts of 8 to 31 datagrams.
        rx_bursts_8_to_31,
        /// Bursts of 32 to 63 datagrams.
        rx_bursts_32_to_63,
        /// Full bursts, of 64 datagrams.
        rx_bursts_64,
        /// Polls without receiving because too many datagrams waited for a TX ring.
        rx_paused_backlog,
        /// Polls without receiving because the pool was nearly empty while datagrams waited for a TX ring.
        rx_paused_pool,
        /// Commands that the role took.
        commands,
        /// Link control datagrams given to the registrar.
        control_datagrams,
        /// Polls after which link control waited because the registrar's mailbox was full.
        control_delayed,
        /// Link control datagrams dropped because there is no registrar (any more).
        control_dropped_no_registrar: drop,
        /// The most datagrams that waited for one port's TX ring.
        tx_backlog_high_water: gauge,
        /// Times the lcore slept until a packet, a message or a deadline came.
        sleeps,
        /// Times the lcore napped: it stayed away for a moment, so that the next poll finds several packets.
        naps,
        /// Nanoseconds asleep, naps included.
        asleep_ns,
        /// Packets lost before a port saw them, as far as the devices say; refreshed every 256 polls.
        rx_lost,
    }
}

frame::counters! {
    /// Frames of an lcore, by where they are; refreshed every 256 polls and before sleep.
    pub struct PoolCounters {
        /// Frames in all.
        frames_capacity: gauge,
        /// Frames that are free.
        frames_free: gauge,
        /// The most frames that were in use at once.
        frames_high_water: gauge,
        /// Frames that the role holds.
        frames_in_role: gauge,
        /// Frames that the ports and their devices hold.
        frames_in_ports: gauge,
        /// Frames that wait to be sent or for the registrar.
        frames_in_outbox: gauge,
    }
}

impl LcoreCounters {
    pub(crate) fn count_burst(&self, len: usize) {
        self.rx_datagrams.add(len as u64);
        let bucket = match len {
            0 => return,
            1 => &self.rx_bursts_1,
            2..8 => &self.rx_bursts_2_to_7,
            8..32 => &self.rx_bursts_8_to_31,
            32..64 => &self.rx_bursts_32_to_63,
            _ => &self.rx_bursts_64,
        };
        bucket.add(1);
    }
}

frame::counters! {
    /// Where an lcore was when the watchdog looked, five times a second: samples, not durations. Written by the watchdog.
    pub struct StageSamples {
        /// Looks that found it taking commands from its mailbox.
        seen_in_mailbox,
        /// Looks that found it receiving from a port.
        seen_in_rx,
        /// Looks that found it in the role, with a burst of a port.
        seen_in_receive,
        /// Looks that found it in the role's timers and flushes.
        seen_in_advance,
        /// Looks that found it sending to a port.
        seen_in_tx,
        /// Looks that found it handing link control to the registrar.
        seen_in_control,
        /// Looks that found it between polls: spinning, yielding or asleep.
        seen_waiting,
    }
}

impl StageSamples {
    pub(crate) fn count(&self, stage: Stage) {
        let counter = match stage {
            Stage::Starting | Stage::Stopped => return,
            Stage::Mailbox => &self.seen_in_mailbox,
            Stage::Rx(_) => &self.seen_in_rx,
            Stage::Receive(_) => &self.seen_in_receive,
            Stage::Advance => &self.seen_in_advance,
            Stage::Tx(_) => &self.seen_in_tx,
            Stage::Control => &self.seen_in_control,
            Stage::Waiting => &self.seen_waiting,
        };
        counter.add(1);
    }
}
