//! The screen: where each panel stands, the first line and the last.

use super::app::App;
use super::panels;
use crate::client::format::span;
use crate::client::rates::warning::Severity;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Below this the panels say nothing.
const LEAST: (u16, u16) = (60, 14);

/// Warnings that are shown, on a low screen and on a high one; the rest is a number.
const WARNINGS: (usize, usize) = (2, 4);

/// Rows from which on a screen is high.
const HIGH: u16 = 30;

/// What a warning looks like.
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
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [body, keys] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    body_of(frame, body, app, if area.height < HIGH { WARNINGS.0 } else { WARNINGS.1 });
    let text = format!(
        " q quit  p {}  s sort: {}  r reverse  up/down scroll",
        if app.paused { "go on" } else { "pause" },
        app.sort.name()
    );
    frame.render_widget(Paragraph::new(text).style(Style::new().reversed()), keys);
}

/// All panels at their full height, without keys: for text.
pub fn page(frame: &mut Frame<'_>, app: &App) {
    body_of(frame, frame.area(), app, usize::MAX);
}

fn body_of(frame: &mut Frame<'_>, area: Rect, app: &App, most: usize) {
    let head = head(app, most);
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

/// The first line, and what needs attention.
fn head(app: &App, most: usize) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    match (&app.stats, &app.rates) {
        (Some(stats), Some(rates)) => {
            let hold = stats.settings.get("hold").map(|hold| format!("  hold {hold}")).unwrap_or_default();
            let about = format!(
                "  {} {}  pid {}  {} for {}{hold}  over {}",
                stats.role,
                stats.version,
                stats.pid,
                stats.state,
                span(stats.uptime_seconds),
                span(rates.seconds)
            );
            let mut spans = vec![Span::from(format!(" {}", app.name)).bold()];
            if app.paused {
                spans.push(Span::from("  PAUSED").yellow().bold());
            }
            spans.push(Span::from(about));
            lines.push(Line::from(spans));
            let shown = rates.warnings.iter().take(most);
            lines.extend(shown.map(|warning| Line::from(format!(" {warning}")).style(style(warning.severity))));
            if let Some(more) = rates.warnings.len().checked_sub(most).filter(|more| *more > 0) {
                lines.push(Line::from(format!("    and {more} more: gvm-dp stats")));
            }
        }
        _ => lines.push(Line::from(format!(" {}  waiting for the first answer", app.name))),
    }
    if let Some(why) = &app.silence {
        lines.push(Line::from(format!(" !! no answer: {why}")).style(style(Severity::Alarm)));
    }
    lines
}
