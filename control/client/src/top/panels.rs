//! The panels: cargo, aggregation, the requests of a disk, lcores, ports, members.

use super::app::App;
use super::columns::{Column, table};
use super::fit;
use crate::format::{bits, count, grouped, nanoseconds, percent, si};
use crate::rates::port::{PortLink, RingFill};
use crate::rates::{DiskRates, Rates, value};
use crate::{applications, disk, lending};
use api::applications::ServingStats;
use api::disk::ServedDisk;
use api::lending::LendingStats;
use common::units::Size;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Sparkline};

/// Height of the cargo and aggregation panels.
pub const CARGO: u16 = 7;

/// How many changes of membership are shown.
const CHANGES: usize = 4;

/// Applications that are shown.
const APPLICATIONS: usize = 6;

/// How many leases are shown, the largest ones.
const LEASES: usize = 4;

/// Lines for what a disk has.
const DISK: u16 = 2;

/// Lines for the causes of flushes.
const CAUSES: usize = 2;

/// From this width on all columns have room.
const WIDE: u16 = 100;

/// A load above this is high.
const HIGH: f64 = 0.9;

fn moving(rate: f64) -> String {
    if rate > 0.0 { si(rate) } else { "-".to_owned() }
}

/// Columns inside the border of a panel.
fn inside(area: Rect) -> usize {
    usize::from(area.width).saturating_sub(2)
}

/// A title of parts, with a blank before and after it.
fn title<T: AsRef<str>>(parts: &[T], area: Rect) -> String {
    format!(" {} ", fit::parts(parts, inside(area).saturating_sub(2)))
}

/// The traffic of a gateway and how it is merged; the counters of a farm.
pub fn cargo(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let Some(rates) = &app.rates else { return };
    if rates.directions.is_empty() {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
        match &rates.disk {
            Some(disk) => requests(frame, left, disk),
            None => farm(frame, left, rates),
        }
        curve(frame, right, app, if rates.disk.is_some() { " requests/s " } else { " records/s " });
        return;
    }
    let right = Constraint::Length(if area.width < WIDE { 33 } else { 42 });
    let [left, right] = Layout::horizontal([Constraint::Fill(1), right]).areas(area);
    let mut rows = Vec::new();
    for direction in &rates.directions {
        for (way, flow) in [("in", &direction.came), ("out", &direction.left)] {
            let cells = vec![
                format!("{} {way}", direction.name),
                moving(flow.records),
                moving(flow.datagrams),
                flow.per_datagram().map_or("-".to_owned(), |share| format!("{share:.1}")),
                if way == "in" { String::new() } else { direction.saved.map_or("-".to_owned(), percent) },
                if flow.bytes > 0.0 { bits(flow.bytes) } else { "-".to_owned() },
            ];
            rows.push((cells, Style::new()));
        }
    }
    let columns = [
        Column::name(""),
        Column::number("records/s", 9),
        Column::number("dgrams/s", 8).vanishes(2),
        Column::number("rec/dgram", 9).vanishes(3),
        Column::number("saved", 6).vanishes(4),
        Column::number("payload", 11).vanishes(1),
    ];
    let held: u64 = rates.directions.iter().map(|direction| direction.total.held).sum();
    let dropped: f64 = rates.drops.iter().map(|drop| drop.rate).sum();
    let dropped = format!("dropped {}/s", moving(dropped));
    let title = title(&["cargo".to_owned(), dropped, format!("held {}", grouped(held))], left);
    frame.render_widget(table(&title, &columns, rows, left.width), left);
    aggregation(frame, right, app, rates);
}

fn aggregation(frame: &mut Frame<'_>, area: Rect, app: &App, rates: &Rates) {
    let block = Block::bordered().title(" aggregation ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [text, chart] = Layout::vertical([Constraint::Length(2 + CAUSES as u16), Constraint::Fill(1)]).areas(inner);
    let width = inside(area);
    let hold = rates.hold.as_ref().map_or(vec!["hold -".to_owned()], |hold| {
        vec![format!("hold p50 {}", nanoseconds(hold.p50)), format!("p99 {}", nanoseconds(hold.p99))]
    });
    let sharing = rates.sharing.as_ref().map_or(vec!["rec/dgram -".to_owned()], |sharing| {
        let (p50, p99) = (format!("p50 {:.0}", sharing.p50), format!("p99 {:.0}", sharing.p99));
        vec![format!("rec/dgram {:.1}", sharing.mean), p50, p99]
    });
    let all: f64 = rates.flushes.iter().map(|flush| flush.rate).sum();
    let mut causes: Vec<_> = rates.flushes.iter().filter(|flush| flush.rate > 0.0).collect();
    causes.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let mut causes: Vec<String> =
        causes.iter().map(|flush| format!("{} {}", flush.what, percent(flush.rate / all))).collect();
    match causes.first_mut() {
        Some(first) => *first = format!("left by {first}"),
        None => causes.push("left by -".to_owned()),
    }
    let mut lines = vec![fit::parts(&hold, width), fit::parts(&sharing, width)];
    lines.extend(fit::wrap(&causes, "  ", width, CAUSES));
    frame.render_widget(Paragraph::new(lines.into_iter().map(Line::from).collect::<Vec<_>>()), text);
    spark(frame, chart, app);
}

fn spark(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let skip = app.history.len().saturating_sub(usize::from(area.width));
    let values: Vec<u64> = app.history.iter().copied().skip(skip).collect();
    frame.render_widget(Sparkline::default().data(values).style(Style::new().fg(Color::Green)), area);
}

fn curve(frame: &mut Frame<'_>, area: Rect, app: &App, title: &'static str) {
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    spark(frame, inner, app);
}

fn farm(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let mut events: Vec<_> = rates.farm.iter().collect();
    events.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let row = |event: &&crate::rates::Event| {
        (vec![event.what.clone(), moving(event.rate), grouped(event.total)], Style::new())
    };
    let columns = [Column::text(""), Column::number("/s", 8).vanishes(2), Column::number("in all", 14).vanishes(1)];
    frame.render_widget(table(" farm ", &columns, events.iter().map(row).collect(), area.width), area);
}

/// The requests of a disk's clients.
fn requests(frame: &mut Frame<'_>, area: Rect, rates: &DiskRates) {
    let rows = rates.requests.iter().map(|request| (disk::cells(request), Style::new()));
    let columns = [
        Column::name(""),
        Column::number("/s", 6),
        Column::number("p50", 8).vanishes(3),
        Column::number("p99", 8),
        Column::number("bytes", 8).vanishes(2),
        Column::number("in all", 10).vanishes(1),
    ];
    let mut parts = vec!["requests".to_owned(), format!("{} under way", grouped(rates.pending))];
    parts.extend(disk::failures(rates));
    frame.render_widget(table(&title(&parts, area), &columns, rows.collect(), area.width), area);
}

/// The lcores.
pub fn lcores(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.lcores().into_iter().skip(app.scroll).map(|lcore| {
        let cells = vec![
            lcore.index.to_string(),
            lcore.core.clone().unwrap_or_else(|| "-".to_owned()),
            percent(lcore.busy),
            percent(lcore.cpu),
            moving(lcore.records),
            lcore.ns_per_record.map_or("-".to_owned(), |ns| format!("{ns:.0}")),
            lcore.burst.map_or("-".to_owned(), |burst| format!("{burst:.1}")),
            moving(lcore.sleeps),
            percent(if lcore.frames > 0 { lcore.frames_free as f64 / lcore.frames as f64 } else { 0.0 }),
            if lcore.standing { format!("STANDS {}", lcore.stage) } else { lcore.stage.clone() },
        ];
        let style = match lcore {
            _ if lcore.standing => Style::new().red().bold(),
            _ if lcore.busy > HIGH => Style::new().yellow(),
            _ => Style::new(),
        };
        (cells, style)
    });
    let columns = [
        Column::number("lcore", 5),
        Column::number("core", 4).vanishes(3),
        Column::number("busy", 6),
        Column::number("cpu", 6).vanishes(4),
        Column::number("records/s", 9).vanishes(7),
        Column::number("ns/rec", 6).vanishes(5),
        Column::number("burst", 5).vanishes(2),
        Column::number("sleeps/s", 8).vanishes(1),
        Column::number("free", 6).vanishes(6),
        Column::text("stage"),
    ];
    let order = if app.reversed { ", reversed" } else { "" };
    let title = title(&[format!("lcores by {}{order}", app.sort.name())], area);
    frame.render_widget(table(&title, &columns, rows.collect(), area.width), area);
}

/// The ports of the lcores.
pub fn ports(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let Some(rates) = &app.rates else { return };
    let fill = |fill: Option<RingFill>| fill.map_or("-".to_owned(), |fill| percent(fill.share));
    // Each step of the scroll hides one lcore, and its ports.
    let each = rates.ports.len() / rates.lcores.len().max(1);
    let rows = rates.ports.iter().skip(app.scroll * each).map(|port| {
        let lost = port.rx_lost + port.tx_lost;
        let cells = vec![
            port.id.to_string(),
            port.lcore.to_string(),
            moving(port.rx),
            moving(port.tx),
            moving(lost),
            fill(port.rx_ring),
            fill(port.tx_ring),
            port.link.name().to_owned(),
            format!("{}  {}", port.name, port.mode),
        ];
        let style = match port.link {
            PortLink::Down | PortLink::Gone => Style::new().red().bold(),
            _ if lost > 0.0 => Style::new().red(),
            _ => Style::new(),
        };
        (cells, style)
    });
    let columns = [
        Column::number("port", 4),
        Column::number("lcore", 5).vanishes(3),
        Column::number("rx/s", 6).vanishes(5),
        Column::number("tx/s", 6).vanishes(4),
        Column::number("lost/s", 6),
        Column::number("rx most", 7).vanishes(1),
        Column::number("tx ring", 7).vanishes(2),
        Column::name("link"),
        Column::text("what"),
    ];
    frame.render_widget(table(" ports ", &columns, rows.collect(), area.width), area);
}

/// Height of the members' panel.
pub fn members_height(app: &App) -> u16 {
    4 + app.changes.len().min(CHANGES) as u16
        + lent(app).map_or(0, |lent| 1 + lent.leases.len().min(LEASES) as u16)
        + served(app).map_or(0, |serving| 1 + serving.applications.len().min(APPLICATIONS) as u16)
        + disk_of(app).map_or(0, |_| DISK)
}

fn lent(app: &App) -> Option<&LendingStats> {
    app.stats.as_ref()?.lending.as_ref()
}

fn served(app: &App) -> Option<&ServingStats> {
    app.stats.as_ref()?.serving.as_ref()
}

fn disk_of(app: &App) -> Option<&ServedDisk> {
    app.stats.as_ref()?.disk.as_ref()
}

/// The members, and what changed.
pub fn members(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let (Some(stats), Some(rates)) = (&app.stats, &app.rates) else { return };
    let members = stats.membership.unwrap_or_default();
    let (here, ids) = (grouped(members.registered), grouped(members.ids));
    let width = inside(area);
    let mut lines = match rates.heartbeats {
        None => vec![Line::from(fit::words(&format!("{here} of {ids} ids registered"), width))],
        Some(heartbeats) => {
            let gone = stats.total.get("link").map_or(0, |link| value(link, "nodes_gone"));
            let refused: f64 = rates.refused.iter().map(|refused| refused.rate).sum();
            let who = [
                format!("{here} of {ids} here"),
                format!("{} suspect", grouped(members.suspect)),
                format!("{} gone", grouped(gone)),
                count(members.masters, "master"),
            ];
            let how = [
                format!("generation {}", grouped(members.generation)),
                format!("heartbeats {}/s", moving(heartbeats)),
                format!("refused {}/s", moving(refused)),
            ];
            vec![Line::from(fit::parts(&who, width)), Line::from(fit::parts(&how, width))]
        }
    };
    if let Some(lent) = lent(app) {
        lines.push(Line::from(fit::parts(&lending::parts(lent), width)));
        let mut leases: Vec<_> = lent.leases.iter().collect();
        leases.sort_by_key(|lease| std::cmp::Reverse(lease.units));
        for lease in leases.into_iter().take(LEASES) {
            let memory = Size(u64::from(lease.units) * lent.unit_bytes);
            let recalled =
                if lease.recalled > 0 { format!(", {} units recalled", lease.recalled) } else { String::new() };
            let text = format!("  master {} has {memory} of id {}{recalled}", lease.master, lease.id);
            lines.push(Line::from(fit::words(&text, width)));
        }
    }
    if let Some(serving) = served(app) {
        lines.push(Line::from(fit::parts(&applications::parts(serving), width)));
        let mut busy: Vec<_> = serving.applications.iter().collect();
        busy.sort_by_key(|application| std::cmp::Reverse(application.requests));
        for application in busy.into_iter().take(APPLICATIONS) {
            lines.push(Line::from(fit::parts(&applications::application(serving, application), width)));
        }
    }
    if let Some(disk) = disk_of(app) {
        lines.extend(fit::wrap(&disk::parts(disk), ", ", width, DISK.into()).into_iter().map(Line::from));
    }
    for change in app.changes.iter().take(CHANGES) {
        let ago = (stats.uptime_seconds - change.at).max(0.0);
        let line = format!("{ago:>5.0} s ago  {}", change.what);
        lines.push(Line::from(fit::words(&line, width)).fg(Color::DarkGray));
    }
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" members ")), area);
}
