//! Two looks at a gateway, written by hand: a second apart, one lcore that works and one that stands still.

use api::stats::Stats;
use serde_json::{Value, json};

fn direction(records: u64, datagrams_out: u64, no_route: u64) -> Value {
    json!({
        "records_in": records, "records_out": records - no_route, "held": 3, "consumed": 0,
        "dropped": { "no_route": no_route, "spoofed": 0, "tx": 0 }, "unaccounted": -3,
        "datagrams_in": records, "datagrams_out": datagrams_out, "bytes_in": records * 87, "bytes_out": records * 87,
        "saved_percent": 90.0
    })
}

fn lcore(index: u64, records: u64, busy_ns: u64, free: u64, stage: &str, standing: bool) -> Value {
    json!({
        "index": index, "core": index + 2, "stage": stage, "standing": standing,
        "cpu_seconds": busy_ns as f64 / 1e9, "memory": "2 MiB hugepages",
        "sets": {
            "lcore": {
                "polls": busy_ns / 1000, "busy_ns": busy_ns, "rx_datagrams": records, "rx_bursts_1": 0,
                "rx_bursts_32_to_63": records / 40, "sleeps": 10, "rx_lost": 0
            },
            "pool": { "frames_capacity": 16384, "frames_free": free, "frames_high_water": 9000 },
            "down": { "records_in": records }, "up": { "records_in": 0 }
        },
        "ports": [{
            "id": 0, "description": format!("xdp:eth0 queue {index} (copy mode, asked for auto; 192.0.2.1:9999, MTU \
             1500, rings of 2048)"),
            "mtu": 1500,
            "counters": {
                "rx_packets": records, "tx_packets": records / 10, "link_up": 1 - index, "vanished": 0,
                "rx_lost_ring_full": if index == 0 { records / 1000 } else { 0 }, "rx_ring_max": 512, "tx_frames": 1024
            }
        }]
    })
}

/// A look: so many seconds after the start, with so many records down so far.
pub(crate) fn look(pid: u32, seconds: f64, records: u64, here: u64) -> Stats {
    let busy = records * 400;
    let look = json!({
        "name": "edge", "role": "gateway", "version": "0.1.0", "pid": pid, "uptime_seconds": seconds,
        "state": "running", "settings": { "hold": "50us" },
        "membership": { "ids": 8192, "registered": here, "suspect": 2, "masters": 1, "generation": 7, "epoch": 1 },
        "cpu_seconds": busy as f64 / 1e9,
        "directions": { "down": direction(records, records / 10, records / 100), "up": direction(0, 0, 0) },
        "total": {
            "link": { "heartbeats_accepted": here * seconds as u64, "refused_forged": seconds as u64, "nodes_gone": 4 },
            "flush": {
                "flush_full": records / 10, "flush_hold": records / 40, "flush_early": 0, "flush_room": 0,
                "flush_order": 0, "flush_drain": 0, "forwarded_whole": 0, "buffers_open": 3
            }
        },
        "histograms": {
            "hold_ns": {
                "buckets": [
                    { "bound": 16384, "count": records / 2 }, { "bound": 32768, "count": records / 4 },
                    { "bound": 65536, "count": records / 4 }, { "bound": null, "count": 0 }
                ],
                "sum": records * 30_000
            }
        },
        "interfaces": [{
            "port": 0, "name": "eth0", "address": "192.0.2.1:9999", "mtu": 1500, "queues": 2, "ring": 2048,
            "asked": "auto", "mode": "copy mode", "turned_off": [],
            "why_copy": "the driver of eth0 has no zero-copy", "driver": "e1000e",
            "verdicts": { "redirect_cargo": records, "drop_no_socket": 0 }
        }],
        "lcores": [
            lcore(0, records, busy, 8000, "between polls", false),
            lcore(1, 0, 0, 500, "in transmit of port 0", true)
        ]
    });
    serde_json::from_value(look).unwrap()
}

/// The two looks: 1,000,000 records in one second.
pub(crate) fn looks() -> (Stats, Stats) {
    (look(42, 100.0, 5_000_000, 4000), look(42, 101.0, 6_000_000, 5000))
}
