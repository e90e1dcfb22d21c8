//! The counters of a registrar.

frame::counters! {
    /// What a registrar counts. Each refused heartbeat is in exactly one `refused_*` counter.
    pub struct RegistrarCounters {
        /// HEARTBEAT records that came in.
        heartbeats_in,
        /// Heartbeats that were accepted: they registered a node or kept it registered.
        heartbeats_accepted,
        /// Heartbeats of version 1 among heartbeats_accepted, which were accepted because of `--accept-v1`.
        heartbeats_v1,
        /// Heartbeats without a valid cookie: answered with the cookie, nothing registered.
        heartbeats_challenged,
        /// Heartbeats among heartbeats_challenged whose cookie was valid and had expired.
        cookies_expired,
        /// HEARTBEAT_ACK records that were made.
        acks_out,
        /// MEMBERS datagrams that were made.
        members_out,
        /// Times that a master asked again for members that it was told before, and was sent fewer, since it had them often enough.
        members_withheld,
        /// Link control datagrams whose rest was no record, and was dropped.
        refused_bad_record,
        /// Records other than HEARTBEAT that were addressed to the registrar.
        refused_unexpected,
        /// Heartbeats too short, or whose fields contradict each other.
        refused_malformed,
        /// Heartbeats of another major version; of version 1 without `--accept-v1`.
        refused_version,
        /// Heartbeats whose tag is not the one that the node's key makes.
        refused_forged,
        /// Heartbeats without a tag, although there is a key.
        refused_unsigned,
        /// Heartbeats of slaves whose shard is not served here.
        refused_foreign_shard,
        /// Heartbeats of masters that did not come in on the first of two ports.
        refused_master_port,
        /// Heartbeats of masters for which there was no room.
        refused_masters_full,
        /// Heartbeats with an old seq of the same boot; of version 1 also those of an earlier boot.
        refused_replayed,
        /// Heartbeats of another boot, with a cookie that is older than the last heartbeat of the registered one.
        refused_other_boot,
        /// Heartbeats of version 1 of nodes that this start of the gateway knows by version 2.
        refused_downgrade,
        /// Heartbeats that claim an id that is alive at another address.
        refused_duplicate,
        /// Accepted heartbeats whose memory cannot be true: the last claim of that boot holds.
        capacity_refused,
        /// Slaves that are here.
        slaves_here: gauge,
        /// Slaves that are suspect: silent together with many others.
        slaves_suspect: gauge,
        /// Masters that are here.
        masters_here: gauge,
        /// Slaves and masters that were declared gone.
        nodes_gone,
        /// Slaves and masters whose last heartbeat was signed with the older of two keys.
        members_old_key: gauge,
        /// Slaves and masters whose last heartbeat was of version 1.
        members_v1: gauge,
        /// HEARTBEAT_ACK records among acks_out that nobody asked for: they say that the gateway drains.
        drain_acks_out,
        /// While draining, slaves and masters that have not said that they heard of it.
        drain_unheard: gauge,
        /// Times that many slaves fell silent at once.
        mass_silences,
        /// Times that the gateway itself may not have heard nodes: an lcore did not poll, or packets or mail were lost.
        deaf_spells,
        /// Nanoseconds in which packets or mail were lost, as far as looks at the counts tell: they count as no silence.
        deaf_ns,
        /// Slaves and masters judged silent although losses or an lcore that did not poll may be the reason.
        doubt_ended,
        /// The membership generation.
        generation: gauge,
    }
}
