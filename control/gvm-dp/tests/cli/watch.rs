//! `stats` and `top`: what a person sees, of literal looks and of real processes.

use crate::harness::{Place, until};
use crate::literal::{look, looks};
use crate::master::Master;
use crate::schema::Checker;
use api::stats::Stats;
use client::rates::{Rates, warning};
use client::stats::report;
use client::top::app::{App, Sort};
use client::top::{draw, page};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

/// The words of the first line that begins so.
fn row<'a>(text: &'a str, begins: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.trim_start().starts_with(begins));
    line.unwrap_or_else(|| panic!("no line begins with {begins}:\n{text}")).split_whitespace().collect()
}

#[test]
fn rates_are_of_the_time_between_two_looks() {
    let (before, now) = looks();
    let rates = Rates::new(Some(&before), &now);
    assert!(!rates.since_start);
    assert!((rates.seconds - 1.0).abs() < 1e-9);
    let down = &rates.directions[0];
    assert_eq!((down.came.records, down.left.datagrams), (1e6, 1e5));
    assert!((down.saved.unwrap() - (1.0 - 100_000.0 / 990_000.0)).abs() < 1e-9);
    assert_eq!(rates.directions[1].saved, None);
    let lcore = &rates.lcores[0];
    assert!((lcore.busy - 0.4).abs() < 1e-9 && (lcore.ns_per_record.unwrap() - 400.0).abs() < 1e-9, "{lcore:?}");
    assert_eq!(lcore.burst, Some(40.0));
    assert_eq!(rates.ports[0].rx_lost, 1000.0);
    let hold = rates.hold.unwrap();
    assert_eq!((hold.p50, hold.mean), (16384.0, 30_000.0));
    assert!(hold.p99 > 60_000.0 && hold.p99 < 65_536.0, "{hold:?}");
}

#[test]
fn a_process_that_was_started_anew_is_seen_from_its_start() {
    let (before, _) = looks();
    let again = look(43, 2.0, 1000, 10);
    let rates = Rates::new(Some(&before), &again);
    assert!(rates.since_start);
    assert_eq!((rates.seconds, rates.directions[0].came.records), (2.0, 500.0));
    // The same pid with a younger clock is another process, too.
    assert!(Rates::new(Some(&before), &look(42, 2.0, 1000, 10)).since_start);
}

#[test]
fn stats_say_what_is_wrong_first_and_leave_zeroes_out() {
    let (before, now) = looks();
    let text = report(&now, &Rates::new(Some(&before), &now));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "edge: gateway 0.1.0, pid 42, running for 1m 41s, 2 lcores, hold 50us; over 1.0 s");
    let warnings: Vec<&str> = lines[1..].iter().take_while(|line| !line.is_empty()).copied().collect();
    let expected = [
        "!! lcore 1 stands still in transmit of port 0",
        "!! lcore 1 has 500 of 16384 frames left",
        "!! port 0 of lcore 0 (xdp:eth0 queue 0): rx_lost_ring_full 1.00k/s",
        "!! port 0 of lcore 1 (xdp:eth0 queue 1): the link is down",
        "!! records dropped down no_route: 10.0k/s",
        " ! heartbeats refused as forged: 1.0/s",
        " ! 2 slaves are suspect",
        " * xdp:eth0 runs in copy mode (asked for auto): the driver of eth0 has no zero-copy",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.starts_with(expected), "{warning} is not {expected}");
    }
    assert_eq!(row(&text, "down in"), ["down", "in", "1.00M", "1.00M", "696", "Mbit/s", "1.0", "6,000,000"]);
    assert_eq!(
        row(&text, "down out"),
        ["down", "out", "990k", "100k", "696", "Mbit/s", "9.9", "89.9", "%", "3", "5,940,000", "60,000"]
    );
    assert_eq!(row(&text, "full"), ["full", "100k", "80.0", "%", "600,000"]);
    assert_eq!(row(&text, "down no_route"), ["down", "no_route", "10.0k", "60,000"]);
    assert!(text.contains("5,000 of 8,192 slaves here, 2 suspect, 4 gone so far, 1 master; generation 7"), "{text}");
    for zero in ["spoofed", "early", "drop_no_socket", "buffers_open"] {
        assert!(!text.contains(zero), "{zero} is zero:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
}

/// A look at a disk, after so many READs.
fn disk_look(seconds: f64, reads: u64, lost: u64) -> Stats {
    let mut look = look(42, seconds, 0, 0);
    let disk = serde_json::json!({
        "size_bytes": 1_u64 << 30, "listen": "unix:/run/disk.nbd", "connections": 1, "master": "/run/master.pages",
        "master_connected": true, "extent_bytes": 2 << 20, "extents": 5, "extents_allowed": 600,
        "present_bytes": 10 << 20, "lost_bytes": lost
    });
    look.role = "disk".to_owned();
    look.disk = Some(serde_json::from_value(disk).unwrap());
    look.directions.clear();
    let sets = serde_json::json!({
        "disk": { "reads": reads, "disk_bytes_read": reads * 4096, "requests_pending": 3, "requests_failed_io": lost }
    });
    look.total = serde_json::from_value(sets).unwrap();
    let took = serde_json::json!({
        "disk_read_ns": {
            "buckets": [
                { "bound": 65_536, "count": reads / 2 }, { "bound": 131_072, "count": reads / 2 },
                { "bound": null, "count": 0 }
            ],
            "sum": reads * 65_536
        }
    });
    look.histograms = serde_json::from_value(took).unwrap();
    look
}

#[test]
fn a_disk_says_what_its_clients_do_and_what_is_lost() {
    let (before, now) = (disk_look(10.0, 1000, 0), disk_look(11.0, 21_000, 4096));
    let text = report(&now, &Rates::new(Some(&before), &now));
    assert_eq!(row(&text, "READ"), ["READ", "20.0k", "65.5", "us", "129.8", "us", "81.9MB/s", "21,000"]);
    assert!(text.contains("!! 4 KiB of the disk are lost"), "{text}");
    assert!(text.contains("failed   EIO 4,096 (4.10k/s)"), "{text}");
    let mut app = App::new("disk".to_owned());
    app.take(before);
    app.take(now);
    assert_eq!(app.history.back(), Some(&20_000));
    for width in [60, 100, 140] {
        let screen = page(&app, width).unwrap();
        for part in ["20.0k", "3 under way", "requests/s", "1G at unix:/run/disk.nbd", "1 connection"] {
            assert!(screen.contains(part), "{part} at {width}:\n{screen}");
        }
    }
}

/// The warnings about interfaces and their ports, when the second look at them is changed so.
fn warned(change: impl Fn(&mut Stats)) -> Vec<String> {
    let (before, mut now) = looks();
    change(&mut now);
    let rates = Rates::new(Some(&before), &now);
    let warnings = warning::all(&now, &rates);
    warnings.iter().map(ToString::to_string).filter(|text| text.contains("xdp:eth0")).collect()
}

#[test]
fn why_there_is_no_zero_copy_is_what_the_start_found_out() {
    let small = "the driver of eth0 has zero-copy only for packets that fit a page: `ip link set dev eth0 mtu 3054`";
    let warnings = warned(|now| now.interfaces[0].why_copy = Some(small.to_owned()));
    let note = warnings.iter().find(|warning| warning.contains("copy mode")).unwrap();
    assert!(note.ends_with(small) && !note.contains("no zero-copy"), "{note}");
    // A process that is older than this command does not say.
    let warnings = warned(|now| now.interfaces[0].why_copy = None);
    assert!(warnings.iter().any(|warning| warning.ends_with("runs in copy mode (asked for auto)")), "{warnings:?}");
}

#[test]
fn packets_that_a_driver_cut_off_are_blamed_on_its_buffers() {
    let cut = |mode: &str| {
        warned(|now| {
            let interface = &mut now.interfaces[0];
            (interface.mode, interface.driver) = (mode.to_owned(), "igb".to_owned());
            interface.verdicts.insert("drop_cut_off".to_owned(), 12);
        })
    };
    let is_cut_off = |warning: &&String| warning.contains("cut off");
    let warnings = cut("zero-copy");
    let warning = warnings.iter().find(is_cut_off).unwrap();
    assert!(warning.starts_with("!! xdp:eth0: 12.0 packets/s were cut off by the driver of eth0 (igb)"), "{warning}");
    for part in ["buffers in zero-copy are too small", "MTU of at most 1500", "mode=copy"] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    // The kernel copies packets whole.
    assert_eq!(cut("copy mode").iter().find(is_cut_off), None);
}

#[test]
fn unfinished_checksums_have_the_remedy_of_their_card() {
    let unfinished = |asked: &str, driver: &str| {
        let warnings = warned(|now| {
            (now.interfaces[0].asked, now.interfaces[0].driver) = (asked.to_owned(), driver.to_owned());
            let counters = &mut now.lcores[0].ports[0].counters;
            counters.insert("rx_dropped_partial_checksum".to_owned(), 5);
        });
        warnings.into_iter().find(|warning| warning.contains("partial_checksum")).unwrap()
    };
    let veth = unfinished("auto", "");
    assert!(veth.contains("`ethtool -K IFACE tx off`") && veth.contains("a veth"), "{veth}");
    let virtio = unfinished("copy", "virtio_net");
    assert!(virtio.contains("on the host `ethtool -K TAP tx off`") && virtio.contains("guest_csum=off"), "{virtio}");
    assert!(!virtio.contains("mode=skb") && !virtio.contains("veth"), "{virtio}");
    let skb = unfinished("skb", "virtio_net");
    assert!(skb.contains("leave mode=skb out") && skb.contains("on the host `ethtool -K TAP tx off`"), "{skb}");
}

fn app() -> App {
    let (before, now) = looks();
    let mut app = App::new("edge".to_owned());
    app.take(before);
    app.take(now);
    app
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::screen(frame, app)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
}

#[test]
fn a_frame_of_top_shows_all_panels() {
    let text = page(&app(), 120).unwrap();
    assert!(text.starts_with(" edge  gateway 0.1.0  pid 42  running for 1m 41s  hold 50us  over 1.0 s\n"), "{text}");
    assert!(text.contains("!! lcore 1 stands still in transmit of port 0"), "{text}");
    let numbers = |begins: &str| {
        let words = row(&text, begins);
        words.iter().filter(|word| **word != "│").map(|word| (*word).to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert!(numbers("│down in").contains("in 1.00M 1.00M 1.0 696 Mbit/s"), "{text}");
    assert!(numbers("│down out").contains("out 990k 100k 9.9 89.9 % 696 Mbit/s"), "{text}");
    assert!(text.contains("hold p50 16.4 us  p99 64.2 us"), "{text}");
    assert!(text.contains("left by full 80.0 %  hold 20.0 %"), "{text}");
    assert!(text.contains("│    0    2 40.0 % 40.0 %     1.00M    400  40.0        - 48.8 % between polls"), "{text}");
    assert!(
        text.contains("STANDS in transmit of port 0") && text.contains("DOWN xdp:eth0 queue 1  copy mode"),
        "{text}"
    );
    assert!(text.contains("5,000 of 8,192 here  2 suspect  4 gone  1 master  "), "{text}");
    assert!(text.contains("0 s ago  here 4,000 -> 5,000"), "{text}");
}

#[test]
fn screens_of_any_size_are_drawn() {
    let app = app();
    let full = screen(&app, 100, 40);
    assert!(full.contains("members") && full.contains("q quit  p pause  s sort: index"), "{full}");
    let small = screen(&app, 80, 24);
    for part in ["cargo", "records/s", "saved", "aggregation", "p99 64.2 us", "lcores by index", "ports", "q quit"] {
        assert!(small.contains(part), "{part} is missing:\n{small}");
    }
    assert!(screen(&app, 40, 10).contains("40 x 10 is too small"));
    for (width, height) in [(1, 1), (60, 14), (300, 100), (61, 15)] {
        screen(&app, width, height);
        screen(&App::new("nobody".to_owned()), width, height);
    }
    assert!(screen(&App::new("nobody".to_owned()), 80, 24).contains("nobody  waiting for the first answer"));
}

/// A gateway with many lcores and large numbers, seen twice.
fn large(lcores: usize, factor: u64) -> App {
    let (before, now) = looks();
    let grow = |mut stats: Stats, step: u64| {
        let mut template = stats.lcores[0].clone();
        let socket = "udp:255.255.255.255:65535 (kernel socket, MTU 1500)".to_owned();
        let device = "dpdk:net_af_packet0,iface=enp129s0f1np1 queue 17 (copied, MTU 1500)".to_owned();
        for description in [socket, device] {
            let mut port = template.ports[0].clone();
            (port.id, port.description) = (template.ports.len() as u8, description);
            template.ports.push(port);
        }
        template.sets.values_mut().flat_map(|set| set.values_mut()).for_each(|value| *value *= factor * step);
        stats.lcores.extend((2..lcores).map(|index| {
            let mut lcore = template.clone();
            (lcore.index, lcore.core) = (index as u16, Some(index * 13));
            lcore
        }));
        let link = stats.total.get_mut("link").unwrap();
        link.extend([("refused_replayed".to_owned(), step * 7), ("nodes_gone".to_owned(), 123_456 * step)]);
        stats.membership.as_mut().unwrap().ids = 131_072;
        stats.directions.values_mut().for_each(|direction| {
            direction.records_in *= factor;
            direction.records_out *= factor;
            direction.held = 98_765 * factor;
            direction.dropped.insert("foreign_shard".to_owned(), 31 * factor * step);
        });
        stats
    };
    let mut app = App::new("a-gateway-with-a-name".to_owned());
    app.take(grow(before, 1));
    app.take(grow(now, 2));
    app
}

/// Words with a digit.
fn numbers(text: &str) -> BTreeSet<&str> {
    let is_edge = |c: char| c.is_whitespace() || "│─┌┐└┘".contains(c);
    text.split(is_edge).filter(|word| word.contains(|c: char| c.is_ascii_digit())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn numbers_are_drawn_whole_at_any_size(
        (width, height) in (1u16..260, 1u16..60), lcores in 2usize..20, factor in 1u64..1_000_000, paused: bool,
            sort in 0u8..4
    ) {
        let mut app = large(lcores, factor);
        if paused {
            app.key(KeyCode::Char('p'));
        }
        for _ in 0..sort {
            app.key(KeyCode::Char('s'));
        }
        // Where there is room for everything, on low screens and on high ones.
        let mut all = page(&app, 400).unwrap();
        [20, 200].iter().for_each(|height| all.push_str(&screen(&app, 400, *height)));
        all.push_str(&format!("{width} x {height} 60 14"));
        let whole = numbers(&all);
        for text in [screen(&app, width, height), page(&app, width.max(60)).unwrap()] {
            for number in numbers(&text) {
                prop_assert!(whole.contains(number), "{number} is cut at {width} x {height}:\n{text}\n{all}");
            }
        }
    }
}

/// The headings of a table whose first heading is this.
fn headings<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.trim_start_matches('│').trim_start().starts_with(first)).unwrap();
    line.split("││").next().unwrap().trim_matches('│').split_whitespace().collect()
}

#[test]
fn the_least_important_columns_vanish_first() {
    // As docs/operating.md says it; what stays stands behind.
    let tables = [
        ("records/s", vec!["payload", "dgrams/s", "rec/dgram", "saved"], "records/s"),
        ("lcore", vec!["sleeps/s", "burst", "core", "cpu", "ns/rec", "free", "records/s"], "busy stage"),
        ("port", vec!["rx most", "tx ring", "lcore", "tx/s", "rx/s"], "lost/s link what"),
    ];
    let document = include_str!("../../../../docs/operating.md");
    for (first, order, stays) in tables {
        let listed = order.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        assert!(document.contains(&listed), "docs/operating.md does not list {listed}");
        let mut gone = Vec::new();
        for width in (60..=200).rev() {
            let text = page(&large(4, 1000), width).unwrap();
            let shown = headings(&text, first).join(" ");
            stays.split(' ').for_each(|name| assert!(shown.contains(name), "{name} at {width}:\n{text}"));
            let missing: Vec<&str> = order.iter().filter(|name| !shown.contains(**name)).copied().collect();
            assert_eq!(missing, order[..missing.len()], "at {width}:\n{text}");
            gone = missing;
        }
        assert!(!gone.is_empty(), "at 60 columns {first} has room for all");
    }
}

#[test]
fn keys_sort_scroll_pause_and_quit() {
    let mut app = app();
    let order = |app: &App| app.lcores().iter().map(|lcore| lcore.index).collect::<Vec<_>>();
    assert_eq!(order(&app), [0, 1]);
    assert!(app.key(KeyCode::Char('r')));
    assert_eq!(order(&app), [1, 0]);
    app.key(KeyCode::Char('r'));
    app.key(KeyCode::Char('s'));
    assert_eq!((app.sort, order(&app)), (Sort::Busy, vec![0, 1]));
    app.key(KeyCode::Down);
    app.key(KeyCode::Down);
    assert_eq!(app.scroll, 1, "not past the last lcore");
    assert!(!screen(&app, 100, 40).contains("between polls"), "lcore 0 is scrolled past");
    app.key(KeyCode::Up);
    app.key(KeyCode::Char('p'));
    let seen = app.stats.clone().unwrap().uptime_seconds;
    app.take(look(42, 105.0, 9_000_000, 5000));
    assert_eq!(app.stats.as_ref().unwrap().uptime_seconds, seen, "paused");
    assert!(screen(&app, 100, 40).contains("PAUSED"));
    app.key(KeyCode::Char('p'));
    app.miss("the process is gone".to_owned());
    assert!(screen(&app, 100, 40).contains("!! no answer: the process is gone"));
    app.take(look(50, 1.0, 10, 1));
    let again = screen(&app, 100, 40);
    assert!(again.contains("started anew, pid 50") && !again.contains("no answer"), "{again}");
    assert!(!app.key(KeyCode::Char('q')) && !app.key(KeyCode::Esc));
}

#[test]
fn a_running_gateway_and_its_farm_are_shown() {
    let place = Place::new();
    let (_gateway, address) = place.gateway(&[]);
    let _master = Master::register(3, address);
    let _farm = place.slave(address, 0, &["--count", "4", "--name", "farm", "--traffic", "master=3,rate=2000"]);
    until("traffic", || (place.stats("gateway")["directions"]["up"]["records_out"].as_u64() > Some(0)).then_some(()));
    let text = place.ask(&["stats", "--name", "gateway", "--interval", "300ms"]);
    assert!(text.starts_with("gateway: gateway ") && text.contains("hold 50us; over "), "{text}");
    let up = row(&text, "up in");
    assert!(up.len() > 5 && up[2] != "-", "{text}");
    assert!(text.contains("udp:127.0.0.1:") && text.contains("4 of 131,072 slaves here"), "{text}");
    assert!(!text.contains("down no_route"), "{text}");
    let all = place.ask(&["stats", "--name", "gateway", "--interval", "50ms", "--all"]);
    assert!(row(&all, "heartbeats_accepted").len() == 3 && all.contains("port 0 of lcore 0"), "{all}");
    let farm = place.ask(&["stats", "--name", "farm", "--interval", "300ms"]);
    assert!(row(&farm, "traffic_records").len() == 3 && farm.contains("4 of 4 ids registered"), "{farm}");
    for (name, panel) in [("gateway", "aggregation"), ("farm", " farm ")] {
        // The output is not a terminal: one frame.
        let frame = place.ask(&["top", "--name", name, "--interval", "300ms"]);
        assert!(frame.contains(panel) && frame.contains("lcores by index") && frame.contains("members"), "{frame}");
    }
    let complaint = place.refused(2, &["stats", "--interval", "1ns"]);
    assert!(complaint.contains("choose 10ms to 3600s"), "{complaint}");
}

/// The next look of `stats --watch --json`.
fn next_look(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Value {
    serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
}

#[test]
fn each_look_of_a_watch_as_json_is_one_line() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&[]);
    let document: Value = serde_json::from_str(api::OPENAPI).unwrap();
    let checker = Checker { document: &document };
    let (watch, stdout) = place.start_piped(&["stats", "--watch", "--json", "--interval", "20ms"]);
    let mut lines = BufReader::new(stdout).lines();
    let mut before = 0.0;
    for _ in 0..3 {
        let look = next_look(&mut lines);
        let wrong = checker.check(&document["components"]["schemas"]["Stats"], &look);
        assert!(wrong.is_empty(), "{wrong:?}");
        let now = look["uptime_seconds"].as_f64().unwrap();
        assert!(now > before, "{now} after {before}");
        before = now;
    }
    // What was begun is ended, and then it ends.
    watch.signal(Signal::INT);
    for line in lines {
        serde_json::from_str::<Stats>(&line.unwrap()).unwrap();
    }
    assert_eq!(watch.wait(), Some(0));
    // Whoever reads has seen enough.
    let (watch, stdout) = place.start_piped(&["stats", "--watch", "--json", "--interval", "20ms"]);
    let mut lines = BufReader::new(stdout).lines();
    next_look(&mut lines);
    drop(lines);
    assert_eq!(watch.wait(), Some(0));
    // The process ends.
    let (watch, stdout) = place.start_piped(&["stats", "--watch", "--json", "--interval", "20ms"]);
    let mut lines = BufReader::new(stdout).lines();
    next_look(&mut lines);
    drop(gateway);
    // It goes on until it finds nobody there; what it says meanwhile is read, so that it may.
    assert!(lines.all(|line| serde_json::from_str::<Stats>(&line.unwrap()).is_ok()));
    watch.says(&["gvm-dp: "]);
    assert_eq!(watch.wait(), Some(6));
    let complaint = place.refused(2, &["stats", "--json", "--interval", "1s"]);
    assert!(complaint.contains("add --watch, or leave it out"), "{complaint}");
}

#[test]
fn a_watch_ends_although_nobody_reads() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    for arguments in
        [&["stats", "--watch", "--json", "--interval", "10ms"][..], &["stats", "--watch", "--interval", "10ms"]]
    {
        let (watch, stdout) = place.start_piped(arguments);
        // By then the pipe is full, or nearly so.
        until("what nobody reads", || (rustix::io::ioctl_fionread(&stdout).unwrap() > 32 << 10).then_some(()));
        watch.signal(Signal::INT);
        assert_eq!(watch.wait(), Some(0));
        drop(stdout);
    }
}
