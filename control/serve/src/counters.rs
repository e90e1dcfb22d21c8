//! What the control thread counts.

frame::counters! {
    /// The control thread: the watchdog, the log, what the machine changes, and the metrics server.
    pub struct ControlCounters {
        /// Times that the watchdog found an lcore standing still.
        watchdog_stalls,
        /// Nanoseconds that lcores were seen to stand still, counted when they moved again.
        watchdog_stalled_ns,
        /// Times that the largest IP packet of a port changed, and routes with it: its interface has another MTU.
        mtu_changes,
        /// Receive queues of interfaces that no lcore serves, since they were added later: what comes there is lost.
        queues_unserved: gauge,
        /// Lcores that are not pinned to the core that they were given any more.
        lcores_moved: gauge,
        /// Times that something happened that cannot happen: a fault of gvm-dp, please report it.
        invariants_broken,
        /// Lines of the log that were lost: nobody read stderr fast enough, or it could not be written.
        log_lines_dropped,
        /// Requests that the metrics server answered.
        metrics_requests,
        /// Connections to the metrics server that were closed at once, or scrapes answered 503, because too many were under way.
        metrics_connections_refused,
        /// Connections to the metrics server that were closed before their request was complete, to make room for others.
        metrics_connections_displaced,
        /// Connections to the metrics server that were closed because the client was too slow.
        metrics_timeouts,
        /// Connections to the control socket that were closed at once because too many were under way.
        socket_connections_refused,
        /// Connections to the control socket that were closed before their request was complete, to make room for others.
        socket_connections_displaced,
        /// Connections to the control socket that were closed because the client was too slow.
        socket_timeouts,
    }
}
