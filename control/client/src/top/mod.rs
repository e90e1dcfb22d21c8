//! `gvm-dp top`: a running process, live, in a terminal.
//!
//! | module | what |
//! |---|---|
//! | [`app`] | the state of the screen: the last samples, the sort order, the changes of members |
//! | [`draw`] | the screen |
//! | [`columns`] | tables whose columns vanish if there is no room for all |
//! | [`fit`] | text of whole words |
//! | [`panels`] | the panels on it |
//! | [`terminal`] | a real terminal: keys, resizing, restoring its state |

pub mod app;
pub mod columns;
pub mod draw;
pub mod fit;
pub mod panels;
pub mod terminal;

use super::{Target, stats::sample};
use crate::args::TopArgs;
use app::App;
use common::exit::Failure;
use common::output::print;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::Duration;

/// Size of a frame that is printed as text.
const PAGE: (u16, u16) = (120, 200);

/// Shows a process until the user quits. If there is not a terminal: once, as text.
///
/// # Errors
/// It fails as [`Target::find`], [`Target::request`] and [`Target::read`] do. In a terminal it fails as
/// [`terminal::run`] does. Elsewhere the error is [`Failure::Output`] when stdout does not take the text.
pub fn run(args: &TopArgs) -> Result<(), Failure> {
    let target = Target::find(&args.target)?;
    let interval = Duration::from_nanos(args.interval.0);
    if !args.once && stdio::out::is_terminal() {
        return terminal::run(target, interval);
    }
    let mut app = App::new(target.name.clone());
    app.take(sample(&target)?);
    std::thread::sleep(interval);
    app.take(sample(&target)?);
    print(&page(&app, PAGE.0)?).map(drop)
}

/// One frame as text.
///
/// # Errors
/// Nothing in it fails: the frame is drawn in memory.
pub fn page(app: &App, width: u16) -> Result<String, Failure> {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, PAGE.1));
    let Ok(frame) = terminal.draw(|frame| draw::page(frame, app));
    let lines = frame.buffer.content().chunks(usize::from(width)).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    let lines: Vec<String> = lines.collect();
    let used = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    Ok(lines.into_iter().take(used).map(|line| line + "\n").collect())
}
