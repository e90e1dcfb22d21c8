//! A real terminal: keys, resizing, and restoring its state at every kind of end.

use super::app::App;
use super::draw;
use crate::Target;
use crate::stats::sample;
use common::exit::Failure;
use common::signal;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::disable_raw_mode;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// How soon a sample that came in is shown.
const TICK: Duration = Duration::from_millis(50);

/// The exit code when the terminal blocks the process.
const UNUSABLE: u8 = 3;

/// Shows a process until the user or a signal ends it.
///
/// # Errors
/// The error is [`Failure::Machine`]: the terminal cannot be used, or the process cannot have another signal handler.
pub fn run(target: Target, interval: Duration) -> Result<(), Failure> {
    let asked = signal::asked()?;
    // A terminal that accepts no output (Ctrl-S) blocks us in a write, and would stay in raw mode. Restoring its other
    // modes needs a write.
    let heard = signal::insist_and(UNUSABLE, || drop(disable_raw_mode()))?;
    let mut terminal = ratatui::try_init().map_err(|error| {
        // Undoes every change of the terminal.
        ratatui::restore();
        unusable(&error)
    })?;
    let result = watch(&mut terminal, target, interval, &asked);
    ratatui::restore();
    heard.set();
    result.map_err(|error| unusable(&error))
}

fn unusable(error: &io::Error) -> Failure {
    Failure::Machine(format!(
        "this terminal cannot be used: {error}; `gvm-dp top --once` prints one frame as text, `gvm-dp stats --watch` \
         goes on"
    ))
}

/// Takes samples repeatedly on its own thread, so that keys work while the process does not answer.
fn looks(target: Target, interval: Duration) -> Receiver<Result<Box<api::stats::Stats>, Failure>> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        while sender.send(sample(&target).map(Box::new)).is_ok() {
            std::thread::sleep(interval);
        }
    });
    receiver
}

fn watch(terminal: &mut DefaultTerminal, target: Target, interval: Duration, asked: &AtomicBool) -> io::Result<()> {
    let mut app = App::new(target.name.clone());
    let looks = looks(target, interval);
    let mut changed = true;
    while !asked.load(Ordering::Relaxed) {
        for look in looks.try_iter() {
            match look {
                Ok(stats) => app.take(*stats),
                Err(failure) => app.miss(failure.to_string()),
            }
            changed = true;
        }
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| draw::screen(frame, &app))?;
        }
        if !event::poll(TICK)? {
            continue;
        }
        changed = true;
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            let interrupted = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupted || !app.key(key.code) {
                break;
            }
        }
    }
    Ok(())
}
