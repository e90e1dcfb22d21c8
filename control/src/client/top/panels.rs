//! The panels: cargo, aggregation, lcores, ports, members.

use super::app::App;
use crate::client::format::{bits, count, grouped, nanoseconds, percent, si};
use crate::client::rates::port::{Fill, Link};
use crate::client::rates::{Rates, value};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};

/// Height of the cargo and aggregation panels.
pub const CARGO: u16 = 7;

/// Changes of membership that are shown.
const CHANGES: usize = 4;

/// Columns from which on there is room for all.
const WIDE: u16 = 100;

/// Where load begins to be high.
const HIGH: f64 = 0.9;

fn moving(rate: f64) -> String {
    if rate > 0.0 { si(rate) } else { "-".to_owned() }
}

fn right_of(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).right_aligned())
}

/// A table whose columns with a width are numbers, and the others text.
fn table(title: String, columns: &[(&'static str, Constraint)], rows: Vec<Row<'static>>) -> Table<'static> {
    let is_number = |width: &Constraint| matches!(width, Constraint::Length(_));
    let heading = columns.iter().map(|(name, width)| {
        let name = Text::from(*name);
        Cell::from(if is_number(width) { name.right_aligned() } else { name })
    });
    Table::new(rows, columns.iter().map(|(_, width)| *width))
        .header(Row::new(heading).style(Style::new().fg(Color::DarkGray)))
        .column_spacing(1)
        .block(Block::bordered().title(title))
}

const fn number(width: u16) -> Constraint {
    Constraint::Length(width)
}

/// What moves, and how it is merged; of a farm, what it counts.
pub fn cargo(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let Some(rates) = &app.rates else { return };
    if rates.directions.is_empty() {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
        farm(frame, left, rates);
        curve(frame, right, app);
        return;
    }
    let narrow = area.width < WIDE;
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(if narrow { 33 } else { 42 })]).areas(area);
    let mut rows = Vec::new();
    for direction in &rates.directions {
        for (way, flow) in [("in", &direction.came), ("out", &direction.left)] {
            let mut cells = vec![
                Cell::from(format!("{} {way}", direction.name)),
                right_of(moving(flow.records)),
                right_of(moving(flow.datagrams)),
                right_of(flow.per_datagram().map_or("-".to_owned(), |share| format!("{share:.1}"))),
                right_of(if way == "in" { String::new() } else { direction.saved.map_or("-".to_owned(), percent) }),
            ];
            if !narrow {
                cells.push(right_of(if flow.bytes > 0.0 { bits(flow.bytes) } else { "-".to_owned() }));
            }
            rows.push(Row::new(cells));
        }
    }
    let columns = [
        ("", Constraint::Fill(1)),
        ("records/s", number(9)),
        ("dgrams/s", number(8)),
        ("rec/dgram", number(9)),
        ("saved", number(6)),
        ("payload", number(11)),
    ];
    let columns = &columns[..columns.len() - usize::from(narrow)];
    let held: u64 = rates.directions.iter().map(|direction| direction.total.held).sum();
    let dropped: f64 = rates.drops.iter().map(|drop| drop.rate).sum();
    let title = format!(" cargo  held {}  dropped {}/s ", grouped(held), moving(dropped));
    frame.render_widget(table(title, columns, rows), left);
    aggregation(frame, right, app, rates);
}

fn aggregation(frame: &mut Frame<'_>, area: Rect, app: &App, rates: &Rates) {
    let block = Block::bordered().title(" aggregation ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [text, chart] = Layout::vertical([Constraint::Length(4), Constraint::Fill(1)]).areas(inner);
    let hold = rates.hold.as_ref().map_or("hold -".to_owned(), |hold| {
        format!("hold p50 {}  p99 {}", nanoseconds(hold.p50), nanoseconds(hold.p99))
    });
    let sharing = rates.sharing.as_ref().map_or("rec/dgram -".to_owned(), |sharing| {
        format!("rec/dgram {:.1}  p50 {:.0}  p99 {:.0}", sharing.mean, sharing.p50, sharing.p99)
    });
    let all: f64 = rates.flushes.iter().map(|flush| flush.rate).sum();
    let mut causes: Vec<_> = rates.flushes.iter().filter(|flush| flush.rate > 0.0).collect();
    causes.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let causes: Vec<String> =
        causes.iter().map(|flush| format!("{} {}", flush.what, percent(flush.rate / all))).collect();
    let causes = if causes.is_empty() { "-".to_owned() } else { causes.join("  ") };
    let lines = vec![Line::from(hold), Line::from(sharing), Line::from(format!("left by {causes}"))];
    frame.render_widget(Paragraph::new(lines).wrap(ratatui::widgets::Wrap { trim: false }), text);
    spark(frame, chart, app);
}

fn spark(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let skip = app.history.len().saturating_sub(usize::from(area.width));
    let values: Vec<u64> = app.history.iter().copied().skip(skip).collect();
    frame.render_widget(Sparkline::default().data(values).style(Style::new().fg(Color::Green)), area);
}

fn curve(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let block = Block::bordered().title(" records/s ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    spark(frame, inner, app);
}

fn farm(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let mut events: Vec<_> = rates.farm.iter().collect();
    events.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let rows = events.iter().map(|event| {
        Row::new([Cell::from(event.what.clone()), right_of(moving(event.rate)), right_of(grouped(event.total))])
    });
    let columns = [("", Constraint::Fill(1)), ("/s", number(8)), ("in all", number(14))];
    frame.render_widget(table(" farm ".to_owned(), &columns, rows.collect()), area);
}

/// The lcores.
pub fn lcores(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.lcores().into_iter().skip(app.scroll).map(|lcore| {
        let row = Row::new([
            right_of(lcore.index.to_string()),
            right_of(lcore.core.map_or("-".to_owned(), |core| core.to_string())),
            right_of(percent(lcore.busy)),
            right_of(percent(lcore.cpu)),
            right_of(moving(lcore.records)),
            right_of(lcore.ns_per_record.map_or("-".to_owned(), |ns| format!("{ns:.0}"))),
            right_of(lcore.burst.map_or("-".to_owned(), |burst| format!("{burst:.1}"))),
            right_of(moving(lcore.sleeps)),
            right_of(percent(if lcore.frames > 0 { lcore.frames_free as f64 / lcore.frames as f64 } else { 0.0 })),
            Cell::from(if lcore.standing { format!("STANDS {}", lcore.stage) } else { lcore.stage.clone() }),
        ]);
        match lcore {
            _ if lcore.standing => row.red().bold(),
            _ if lcore.busy > HIGH => row.yellow(),
            _ => row,
        }
    });
    let columns = [
        ("lcore", number(5)),
        ("core", number(4)),
        ("busy", number(6)),
        ("cpu", number(6)),
        ("records/s", number(9)),
        ("ns/rec", number(6)),
        ("burst", number(5)),
        ("sleeps/s", number(8)),
        ("free", number(6)),
        ("stage", Constraint::Fill(1)),
    ];
    let order = if app.reversed { ", reversed" } else { "" };
    let title = format!(" lcores by {}{order} ", app.sort.name());
    frame.render_widget(table(title, &columns, rows.collect()), area);
}

/// The ports of the lcores.
pub fn ports(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let Some(rates) = &app.rates else { return };
    let fill = |fill: Option<Fill>| fill.map_or("-".to_owned(), |fill| percent(fill.share));
    // One lcore less is shown for each step of the scroll, and so are its ports.
    let each = rates.ports.len() / rates.lcores.len().max(1);
    let rows = rates.ports.iter().skip(app.scroll * each).map(|port| {
        let lost = port.rx_lost + port.tx_lost;
        let row = Row::new([
            right_of(port.id.to_string()),
            right_of(port.lcore.to_string()),
            right_of(moving(port.rx)),
            right_of(moving(port.tx)),
            right_of(moving(lost)),
            right_of(fill(port.rx_ring)),
            right_of(fill(port.tx_ring)),
            Cell::from(Text::from(port.link.name())),
            Cell::from(format!("{}  {}", port.name, port.mode)),
        ]);
        match port.link {
            Link::Down | Link::Gone => row.red().bold(),
            _ if lost > 0.0 => row.red(),
            _ => row,
        }
    });
    let columns = [
        ("port", number(4)),
        ("lcore", number(5)),
        ("rx/s", number(6)),
        ("tx/s", number(6)),
        ("lost/s", number(6)),
        ("rx most", number(7)),
        ("tx ring", number(7)),
        ("link", Constraint::Max(4)),
        ("what", Constraint::Fill(1)),
    ];
    frame.render_widget(table(" ports ".to_owned(), &columns, rows.collect()), area);
}

/// Height of the members' panel.
pub fn members_height(app: &App) -> u16 {
    4 + app.changes.len().min(CHANGES) as u16
}

/// Who is there, and what changed.
pub fn members(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let (Some(stats), Some(rates)) = (&app.stats, &app.rates) else { return };
    let members = stats.membership.unwrap_or_default();
    let (here, ids) = (grouped(members.registered), grouped(members.ids));
    let mut lines = match rates.heartbeats {
        None => vec![Line::from(format!("{here} of {ids} ids registered"))],
        Some(heartbeats) => {
            let gone = stats.total.get("link").map_or(0, |link| value(link, "nodes_gone"));
            let refused: f64 = rates.refused.iter().map(|refused| refused.rate).sum();
            let masters = count(members.masters, "master");
            vec![
                Line::from(format!(
                    "{here} of {ids} here  {} suspect  {} gone  {masters}",
                    members.suspect,
                    grouped(gone)
                )),
                Line::from(format!(
                    "generation {}  heartbeats {}/s  refused {}/s",
                    grouped(members.generation),
                    moving(heartbeats),
                    moving(refused)
                )),
            ]
        }
    };
    for change in app.changes.iter().take(CHANGES) {
        let ago = (stats.uptime_seconds - change.at).max(0.0);
        lines.push(Line::from(format!("{ago:>5.0} s ago  {}", change.what)).fg(Color::DarkGray));
    }
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" members ")), area);
}
