//! Tables whose columns vanish one after the other if there is no room for all. Cells of numbers and names are never
//! cut.

use super::fit::words;
use ratatui::style::{Color, Style};
use ratatui::text::Text;
use ratatui::widgets::{Block, Cell, Row, Table};

/// The largest width that the first word of a text column can demand: `udp:255.255.255.255:65535` fits.
const WORD: usize = 26;

/// The kind of a column's cells.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Right-aligned, shown whole.
    Number,
    /// Left-aligned, shown whole.
    Name,
    /// Left-aligned. If there is no room, the last words of a text are left out.
    Text,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    heading: &'static str,
    kind: Kind,
    /// The minimum width, so that the column does not change its width with its content.
    least: usize,
    /// The order in which it vanishes, from 1; `None` if it never does.
    turn: Option<u8>,
}

impl Column {
    const fn new(heading: &'static str, kind: Kind, least: usize) -> Self {
        Self { heading, kind, least, turn: None }
    }

    /// A column of numbers, with its least width.
    pub const fn number(heading: &'static str, least: usize) -> Self {
        Self::new(heading, Kind::Number, least)
    }

    /// A column of short words that are shown whole.
    pub const fn name(heading: &'static str) -> Self {
        Self::new(heading, Kind::Name, 0)
    }

    /// A column of text, which takes the room that the others leave.
    pub const fn text(heading: &'static str) -> Self {
        Self::new(heading, Kind::Text, 0)
    }

    /// The same column; it vanishes as the `turn`th if there is no room for all.
    pub const fn vanishes(mut self, turn: u8) -> Self {
        self.turn = Some(turn);
        self
    }

    /// The width that it needs for these cells.
    fn need<'a>(&self, cells: impl Iterator<Item = &'a str>) -> usize {
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let cells = match self.kind {
            Kind::Number | Kind::Name => longest(&mut cells.map(|cell| cell.chars().count())),
            Kind::Text => {
                let first = cells.map(|cell| cell.split_whitespace().next().unwrap_or_default().chars().count());
                longest(&mut { first }).min(WORD)
            }
        };
        cells.max(self.heading.chars().count()).max(self.least)
    }
}

/// Which columns are shown in this width, given the width that each needs. One blank separates two columns.
fn chosen(columns: &[Column], needs: &[usize], room: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let turn = |index: &usize| columns.get(*index).and_then(|column| column.turn);
    loop {
        let used: usize = shown.iter().filter_map(|index| needs.get(*index)).sum();
        if used + shown.len().saturating_sub(1) <= room {
            return shown;
        }
        let Some(next) = shown.iter().filter(|index| turn(index).is_some()).min_by_key(|index| turn(index)).copied()
        else {
            return shown;
        };
        shown.retain(|index| *index != next);
    }
}

/// A table in a frame of this width. A row has a cell for each column, also for columns that are not shown.
pub fn table(title: &str, columns: &[Column], rows: Vec<(Vec<String>, Style)>, width: u16) -> Table<'static> {
    let room = usize::from(width).saturating_sub(2);
    let cells = |index: usize| rows.iter().filter_map(move |(cells, _)| cells.get(index)).map(String::as_str);
    let needs: Vec<usize> = columns.iter().enumerate().map(|(index, column)| column.need(cells(index))).collect();
    let shown = chosen(columns, &needs, room);
    let fixed = |index: &&usize| columns.get(**index).is_some_and(|column| !matches!(column.kind, Kind::Text));
    let of_fixed: usize = shown.iter().filter(fixed).filter_map(|index| needs.get(*index)).sum();
    // A table has at most one column of text.
    let of_text = room.saturating_sub(of_fixed + shown.len().saturating_sub(1));
    let shown: Vec<(usize, Column, usize)> = shown
        .into_iter()
        .filter_map(|index| {
            let (column, need) = (*columns.get(index)?, *needs.get(index)?);
            Some((index, column, if matches!(column.kind, Kind::Text) { of_text } else { need }))
        })
        .collect();
    let cell = |column: &Column, text: &str, width: usize| match column.kind {
        Kind::Number => Cell::from(Text::from(text.to_owned()).right_aligned()),
        Kind::Name => Cell::from(text.to_owned()),
        Kind::Text => Cell::from(words(text, width)),
    };
    let heading: Vec<Cell<'static>> =
        shown.iter().map(|(_, column, width)| cell(column, column.heading, *width)).collect();
    let line = |(cells, style): &(Vec<String>, Style)| {
        let text = |index: usize| cells.get(index).map_or("", String::as_str);
        Row::new(shown.iter().map(|(index, column, width)| cell(column, text(*index), *width)).collect::<Vec<_>>())
            .style(*style)
    };
    Table::new(rows.iter().map(line).collect::<Vec<_>>(), shown.iter().map(|(.., width)| *width as u16))
        .header(Row::new(heading).style(Style::new().fg(Color::DarkGray)))
        .column_spacing(1)
        .block(Block::bordered().title(words(title, room)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_vanish_in_their_turn_and_others_stay() {
        let columns = [
            Column::name("a"),
            Column::number("b", 5).vanishes(2),
            Column::number("c", 5).vanishes(1),
            Column::text("d").vanishes(3),
        ];
        let needs = [4, 5, 5, 10];
        assert_eq!(chosen(&columns, &needs, 27), [0, 1, 2, 3]);
        assert_eq!(chosen(&columns, &needs, 26), [0, 1, 3]);
        assert_eq!(chosen(&columns, &needs, 20), [0, 3]);
        assert_eq!(chosen(&columns, &needs, 14), [0]);
        assert_eq!(chosen(&columns, &needs, 1), [0], "what has no turn stays");
    }

    #[test]
    fn a_column_is_as_wide_as_its_longest_number() {
        assert_eq!(Column::number("rx/s", 6).need(["1", "12.3k"].into_iter()), 6);
        assert_eq!(Column::number("in all", 6).need(["1", "12,345,678"].into_iter()), 10);
        assert_eq!(Column::text("what").need(["udp:192.0.2.1:9999  kernel socket"].into_iter()), 18);
        assert_eq!(Column::text("what").need(["dpdk:net_af_packet0,iface=a_long_one"].into_iter()), WORD);
    }
}
