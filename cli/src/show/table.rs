//! Borderless tables that fit the width there is: long text is shortened first, then columns are left out, the least important
//! first, then text is shortened further. A listing may come page by page, with the widths of its first page.

/// How a column is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Between two columns.
const GAP: usize = 2;
/// Text is not shortened below the first of these while a column may be left out, and never below the second.
const SHORT: [usize; 2] = [20, 8];

/// See the module.
pub(crate) struct Table<'a> {
    columns: &'a [(&'a str, Align)],
    /// Names of columns that may be left out, the first one first.
    drops: &'a [&'a str],
    /// Characters in a line; none where nobody looks, so that nothing is cut.
    width: Option<usize>,
    /// Of each column; `None` if it is left out. Known from the first page on.
    widths: Vec<Option<usize>>,
}

impl<'a> Table<'a> {
    /// A table without rows.
    pub(crate) fn new(columns: &'a [(&'a str, Align)], drops: &'a [&'a str], width: Option<usize>) -> Self {
        Self { columns, drops, width, widths: Vec::new() }
    }

    /// The lines of these rows, under the header if they are the first.
    pub(crate) fn page(&mut self, rows: &[Vec<String>]) -> String {
        let mut text = String::new();
        if self.widths.is_empty() {
            self.widths = self.fit(rows);
            let names: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
            self.line(&names, &mut text);
        }
        rows.iter().for_each(|row| self.line(row, &mut text));
        text
    }

    /// No page was shown.
    pub(crate) fn is_empty(&self) -> bool {
        self.widths.is_empty()
    }

    fn line(&self, cells: &[String], text: &mut String) {
        let mut line = String::new();
        for (((_, align), width), cell) in self.columns.iter().zip(&self.widths).zip(cells) {
            let Some(width) = *width else { continue };
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            let cell = if self.width.is_some() { shortened(cell, width) } else { cell.clone() };
            let room = " ".repeat(width.saturating_sub(columns_of(&cell)));
            match align {
                Align::Left => line.extend([cell, room]),
                Align::Right => line.extend([room, cell]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }

    fn fit(&self, rows: &[Vec<String>]) -> Vec<Option<usize>> {
        let natural = |at: usize| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| columns_of(cell));
            cells.chain([self.columns[at].0.len()]).max()
        };
        let mut widths: Vec<Option<usize>> = (0..self.columns.len()).map(natural).collect();
        let Some(limit) = self.width else { return widths };
        self.shorten(&mut widths, SHORT[0], limit);
        for name in self.drops {
            if total(&widths) <= limit {
                return widths;
            }
            if let Some(at) = self.columns.iter().position(|(column, _)| column == name) {
                widths[at] = None;
            }
            // What was shortened gets the room back as far as there is any.
            let mut again: Vec<Option<usize>> =
                widths.iter().enumerate().map(|(at, width)| width.and(natural(at))).collect();
            self.shorten(&mut again, SHORT[0], limit);
            widths = again;
        }
        self.shorten(&mut widths, SHORT[1], limit);
        widths
    }

    /// Takes from the widest column of text until the line fits, or all are this short.
    fn shorten(&self, widths: &mut [Option<usize>], least: usize, limit: usize) {
        while total(widths) > limit {
            let text =
                self.columns.iter().zip(widths.iter_mut()).filter(|((_, align), _)| *align == Align::Left);
            let long = text.filter_map(|((name, _), width)| {
                let width = width.as_mut()?;
                (*width > least.max(name.len())).then_some(width)
            });
            let Some(widest) = long.max_by_key(|width| **width) else { return };
            *widest -= 1;
        }
    }
}

fn total(widths: &[Option<usize>]) -> usize {
    let shown: Vec<usize> = widths.iter().flatten().copied().collect();
    shown.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1)
}

/// The beginning of a text, with a sign that there is more.
fn shortened(text: &str, width: usize) -> String {
    if columns_of(text) <= width {
        return text.to_owned();
    }
    let (mut short, mut used) = (String::new(), 0);
    for character in text.chars() {
        used += columns_of_char(character);
        if used + 1 > width {
            break;
        }
        short.push(character);
    }
    short + "…"
}

/// How many columns of a terminal a text takes.
fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// Wide are the scripts of East Asia and pictures; marks that combine take none.
fn columns_of_char(character: char) -> usize {
    match u32::from(character) {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::Align::{Left, Right};
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tables_are_borderless_and_numbers_stand_right() {
        let columns = [("QUEUE", Left), ("READY", Right)];
        let rows = [row(&["emails", "12"]), row(&["jobs", "1,204"]), row(&["日本", "1"])];
        let shown = Table::new(&columns, &[], None).page(&rows);
        assert_eq!(shown, "QUEUE   READY\nemails     12\njobs    1,204\n日本        1\n");
    }

    #[test]
    fn a_table_fits_by_shorter_text_then_by_fewer_columns_then_by_shorter_text() {
        let columns = [("ID", Right), ("ATTEMPTS", Right), ("ERROR", Left), ("BODY", Left)];
        let rows = [row(&["4812", "3", &"e".repeat(40), &"b".repeat(30)])];
        for (width, widest, shows_attempts) in
            [(200, 88, true), (80, 80, true), (60, 60, true), (48, 48, false), (30, 30, false)]
        {
            let text = Table::new(&columns, &["ATTEMPTS"], Some(width)).page(&rows);
            let longest = text.lines().map(columns_of).max().unwrap();
            assert_eq!((longest, text.contains("ATTEMPTS")), (widest, shows_attempts), "{width}:\n{text}");
        }
        let text = Table::new(&columns, &["ATTEMPTS"], Some(30)).page(&rows);
        assert_eq!(text, "  ID  ERROR        BODY\n4812  eeeeeeeeee…  bbbbbbbbbb…\n");
    }

    #[test]
    fn later_pages_have_the_widths_of_the_first_and_no_header() {
        let columns = [("NAME", Left), ("N", Right)];
        let mut table = Table::new(&columns, &[], Some(12));
        assert_eq!(table.page(&[row(&["abcdef", "1"])]), "NAME    N\nabcdef  1\n");
        assert_eq!(table.page(&[row(&["abcdefgh", "2"])]), "abcde…  2\n");
        let mut unseen = Table::new(&columns, &[], None);
        unseen.page(&[row(&["a", "1"])]);
        assert_eq!(
            unseen.page(&[row(&["abcdefgh", "2"])]),
            "abcdefgh  2\n",
            "nothing is cut where nobody looks"
        );
    }
}
