//! The screen: the places of the panels, the first line and the last.

use super::app::App;
use super::{fit, panels};
use crate::format::span;
use crate::rates::warning::{self, Severity};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// On a smaller screen the panels are not shown.
const LEAST: (u16, u16) = (60, 14);

/// How many warnings are shown, on a low screen and on a high one. Of the rest only the number is shown.
const WARNINGS: (usize, usize) = (2, 4);

/// A screen with this many rows is high.
const HIGH: u16 = 30;

/// The style of a warning.
pub fn style(severity: Severity) -> Style {
    match severity {
        Severity::Alarm => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Severity::Warning => Style::new().fg(Color::Yellow),
        Severity::Note => Style::new().fg(Color::Cyan),
    }
}

/// The whole screen, with its keys.
pub fn screen(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} x {} is too small: {} x {} at least", area.width, area.height, LEAST.0, LEAST.1);
        let width = usize::from(area.width);
        let lines = fit::wrap(&text.split(' ').collect::<Vec<_>>(), " ", width, usize::from(area.height));
        frame.render_widget(Paragraph::new(lines.join("\n")), area);
        return;
    }
    let [body, keys] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    body_of(frame, body, app, if area.height < HIGH { WARNINGS.0 } else { WARNINGS.1 });
    let pause = if app.paused { "p go on" } else { "p pause" };
    let sort = format!("s sort: {}", app.sort.name());
    let text = fit::parts(&[" q quit", pause, &sort, "r reverse", "up/down scroll"], usize::from(keys.width));
    frame.render_widget(Paragraph::new(text).style(Style::new().reversed()), keys);
}

/// All panels at their full height, without keys: for text output.
pub fn page(frame: &mut Frame<'_>, app: &App) {
    body_of(frame, frame.area(), app, usize::MAX);
}

fn body_of(frame: &mut Frame<'_>, area: Rect, app: &App, most: usize) {
    let head = head(app, most, usize::from(area.width));
    let ports = app.rates.as_ref().map_or(0, |rates| rates.ports.len());
    let lcores = app.rates.as_ref().map_or(0, |rates| rates.lcores.len());
    let rows = |rows: usize| Constraint::Max(u16::try_from(rows + 3).unwrap_or(u16::MAX));
    let [top, cargo, cores, queues, members] = Layout::vertical([
        Constraint::Length(head.len() as u16),
        Constraint::Length(panels::CARGO),
        rows(lcores),
        rows(ports),
        Constraint::Length(panels::members_height(app)),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head), top);
    panels::cargo(frame, cargo, app);
    panels::lcores(frame, cores, app);
    panels::ports(frame, queues, app);
    panels::members(frame, members, app);
}

/// The first line, and the warnings.
fn head(app: &App, most: usize, width: usize) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    match (&app.stats, &app.rates) {
        (Some(stats), Some(rates)) => {
            let paused = if app.paused { "  PAUSED" } else { "" };
            let name = fit::words(&app.name, width.saturating_sub(paused.len() + 1));
            let left = width.saturating_sub(name.chars().count() + paused.len() + 3);
            let mut about = vec![
                format!("{} {}", stats.role, stats.version),
                format!("pid {}", stats.pid),
                format!("{} for {}", stats.state, span(stats.uptime_seconds)),
            ];
            about.extend(stats.settings.get("hold").map(|hold| format!("hold {hold}")));
            about.push(format!("over {}", span(rates.seconds)));
            lines.push(Line::from(vec![
                Span::from(format!(" {name}")).bold(),
                Span::from(paused).yellow().bold(),
                Span::from(format!("  {}", fit::parts(&about, left))),
            ]));
            let warnings = warning::all(stats, rates);
            let shown = warnings.iter().take(most);
            lines.extend(
                shown.map(|warning| {
                    Line::from(fit::words(&format!(" {warning}"), width)).style(style(warning.severity))
                }),
            );
            if let Some(more) = warnings.len().checked_sub(most).filter(|more| *more > 0) {
                lines.push(Line::from(fit::words(&format!("    and {more} more: gvm-dp stats"), width)));
            }
        }
        _ => lines.push(Line::from(fit::parts(&[&format!(" {}", app.name), "waiting for the first answer"], width))),
    }
    if let Some(why) = &app.silence {
        lines.push(Line::from(fit::words(&format!(" !! no answer: {why}"), width)).style(style(Severity::Alarm)));
    }
    lines
}
