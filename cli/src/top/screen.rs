//! How `top` looks, and what keys do to it.

use std::cmp::Reverse;
use std::time::Duration;

use super::keys::Key;
use super::model::{Model, Rates, Row};
use crate::clock;
use crate::grammar::{TopArgs, TopSort};
use crate::render;
use crate::table::{Align, Table};

/// Heights of a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The columns that are sorted by, in the order of `s`.
const SORTS: [TopSort; 6] =
    [TopSort::Ready, TopSort::In, TopSort::Out, TopSort::Oldest, TopSort::Dead, TopSort::Name];

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To draw.
    Draw,
    /// To look at the cluster at once.
    Look,
    /// To end.
    Leave,
}

/// See the module.
pub(super) struct Screen {
    sort: TopSort,
    reversed: bool,
    filter: String,
    /// A filter is being typed.
    typing: bool,
    paused: bool,
    help: bool,
    /// Queues above the first that is shown.
    offset: usize,
}

impl Screen {
    pub(super) fn of(args: &TopArgs) -> Self {
        Self {
            sort: args.sort,
            reversed: false,
            filter: args.filter.clone().unwrap_or_default(),
            typing: false,
            paused: false,
            help: false,
            offset: 0,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: Key) -> Wish {
        if self.typing {
            match key {
                Key::Char(character) => self.filter.push(character),
                Key::Backspace => drop(self.filter.pop()),
                Key::Enter => self.typing = false,
                Key::Escape => (self.typing, self.filter) = (false, String::new()),
                _ => {}
            }
            self.offset = 0;
            return Wish::Draw;
        }
        match key {
            Key::Char('q') => return Wish::Leave,
            Key::Escape if !self.help && self.filter.is_empty() => return Wish::Leave,
            Key::Escape => (self.help, self.filter) = (false, String::new()),
            Key::Char('s') => {
                let at = SORTS.iter().position(|sort| *sort == self.sort).unwrap_or(0);
                self.sort = SORTS[(at + 1) % SORTS.len()];
                self.offset = 0;
            }
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('/') => self.typing = true,
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                return if self.paused { Wish::Draw } else { Wish::Look };
            }
            Key::Char('?' | 'h') => self.help = !self.help,
            Key::Down | Key::Char('j') => self.offset += 1,
            Key::Up | Key::Char('k') => self.offset = self.offset.saturating_sub(1),
            Key::PageDown => self.offset += 10,
            Key::PageUp => self.offset = self.offset.saturating_sub(10),
            _ => {}
        }
        Wish::Draw
    }

    /// Draws everything over what is there.
    pub(super) fn frame(
        &mut self,
        model: &Model,
        (columns, rows): (usize, usize),
        every: Duration,
    ) -> String {
        let mut lines = if self.help { help() } else { self.lines(model, (columns, rows), every) };
        let footer = self.footer();
        lines.truncate(rows.saturating_sub(1));
        lines.resize(rows.saturating_sub(1), String::new());
        lines.push(footer);
        let mut frame = "\x1b[H".to_owned();
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                frame.push_str("\r\n");
            }
            frame.extend(line.chars().take(columns));
            frame.push_str("\x1b[K");
        }
        frame.push_str("\x1b[J");
        frame
    }

    /// All of it once, for a reader that is no terminal.
    pub(super) fn text(&self, model: &Model, width: Option<usize>) -> String {
        let mut text = format!("{}\n", header(model));
        text.push_str(&nodes(model, width));
        text.push_str(&self.queues(&self.chosen(model), width));
        text
    }

    fn lines(&mut self, model: &Model, (columns, rows): (usize, usize), every: Duration) -> Vec<String> {
        let now = clock::time_of_day(clock::unix_ms_in(Duration::ZERO));
        let every = if self.paused {
            "PAUSED".to_owned()
        } else {
            format!("every {}", humantime::format_duration(every))
        };
        let mut lines = vec![format!("{}  {every}  {now}", header(model)), String::new()];
        lines.extend(nodes(model, Some(columns)).lines().map(str::to_owned));
        lines.push(String::new());
        lines.extend(picture(model, columns));
        let mut chosen = self.chosen(model);
        let (shown, all) = (chosen.len(), model.rows.len());
        let filter = if self.filter.is_empty() {
            String::new()
        } else {
            format!(" of {all} with \"{}\"", self.filter)
        };
        let order = if self.reversed { ", reversed" } else { "" };
        let sort = sort_name(self.sort);
        lines.push(format!("{} queues{filter}, by {sort}{order}", render::count(shown as u64)));
        // The header of the table and the footer.
        let room = rows.saturating_sub(lines.len() + 2);
        self.offset = self.offset.min(shown.saturating_sub(room));
        let below = shown.saturating_sub(self.offset + room);
        chosen.drain(..self.offset);
        // Widths follow all that is chosen, so that columns stay where they are while one scrolls.
        let mut table: Vec<String> = self.queues(&chosen, Some(columns)).lines().map(str::to_owned).collect();
        if below > 0 && room > 0 {
            table.truncate(room);
            table.push(format!("… {} more, ↓ scrolls", render::count(below as u64 + 1)));
        }
        lines.extend(table);
        lines
    }

    fn footer(&self) -> String {
        if self.typing {
            return format!("filter: {}▏  Enter keeps it, Esc drops it", self.filter);
        }
        "q quit  s sort  r reverse  / filter  p pause  ? help".to_owned()
    }

    /// The queues that are shown, in order.
    fn chosen<'a>(&self, model: &'a Model) -> Vec<&'a Row> {
        let mut rows: Vec<&Row> =
            model.rows.iter().filter(|row| row.view.name.as_str().contains(&self.filter)).collect();
        let by =
            |rate: fn(&Rates) -> u64| move |row: &&Row| Reverse(row.rates.map_or(0, |rates| rate(&rates)));
        match self.sort {
            TopSort::Name => {}
            TopSort::Ready => rows.sort_by_key(|row| Reverse(row.view.ready)),
            TopSort::In => rows.sort_by_key(by(|rates| rates.into)),
            TopSort::Out => rows.sort_by_key(by(|rates| rates.out)),
            TopSort::Oldest => rows.sort_by_key(|row| Reverse(row.view.oldest_ready_ms)),
            TopSort::Dead => rows.sort_by_key(|row| Reverse(row.view.dead)),
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    fn queues(&self, rows: &[&Row], width: Option<usize>) -> String {
        use Align::{Left, Right};
        let columns = [
            ("QUEUE", Left),
            ("READY", Right),
            ("LEASED", Right),
            ("DELAYED", Right),
            ("DEAD", Right),
            ("IN/s", Right),
            ("OUT/s", Right),
            ("OLDEST", Right),
            ("WAIT", Right),
            ("STATE", Left),
        ];
        let row = |row: &&Row| {
            let view = &row.view;
            let rate = |rate: fn(&Rates) -> u64| {
                row.rates.map_or_else(|| "?".to_owned(), |rates| per_second(rate(&rates)))
            };
            vec![
                view.name.to_string(),
                render::count(view.ready),
                render::count(view.leased),
                render::count(view.delayed),
                render::count(view.dead),
                rate(|rates| rates.into),
                rate(|rates| rates.out),
                view.oldest_ready_ms.map_or_else(|| "-".to_owned(), render::age),
                render::count(view.waiting.into()),
                queue_json::queue::state(view),
            ]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
        Table::new(&columns, &["DELAYED", "STATE", "WAIT", "LEASED", "DEAD"], width).page(&rows)
    }
}

/// The first line: who leads, what is wrong.
fn header(model: &Model) -> String {
    let cluster = match &model.nodes {
        None => "no node answers".to_owned(),
        Some(nodes) => {
            let judged = nodes.judge();
            let (have, _, of) = judged.quorum();
            match &judged.leader {
                Some(leader) => {
                    format!("leader {}  term {}  {have} of {of} voters", leader.name, leader.term)
                }
                None => "no leader".to_owned(),
            }
        }
    };
    match model.trouble() {
        Some((what, since)) => format!("top  {cluster}  {what} for {:.1} s", since.as_secs_f64()),
        None => format!("top  {cluster}"),
    }
}

fn nodes(model: &Model, width: Option<usize>) -> String {
    model.nodes.as_ref().map_or_else(String::new, |nodes| nodes.table(width))
}

/// What went in and out lately, a bar a look.
fn picture(model: &Model, columns: usize) -> Vec<String> {
    let last = model.history.back().copied().unwrap_or_default();
    let line = |name: &str, now: u64, of: fn(&Rates) -> u64| {
        let peak = model.history.iter().map(of).max().unwrap_or(0);
        let title = format!("{name:<3} {:>8}/s  peak {:>8}/s  ", per_second(now), per_second(peak));
        let room = columns.saturating_sub(title.chars().count());
        let bars = model
            .history
            .iter()
            .skip(model.history.len().saturating_sub(room))
            .map(|rates| bar(of(rates), peak));
        title.clone() + &bars.collect::<String>()
    };
    vec![line("in", last.into, |rates| rates.into), line("out", last.out, |rates| rates.out), String::new()]
}

fn bar(value: u64, peak: u64) -> char {
    if value == 0 {
        return ' ';
    }
    let step = u128::from(value) * BARS.len() as u128;
    let step = usize::try_from(step.div_ceil(u128::from(peak.max(1)))).unwrap_or(BARS.len());
    BARS[step.clamp(1, BARS.len()) - 1]
}

fn per_second(tenths: u64) -> String {
    if tenths >= 10_000 { render::count(tenths / 10) } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

fn sort_name(sort: TopSort) -> &'static str {
    match sort {
        TopSort::Name => "name",
        TopSort::Ready => "ready",
        TopSort::In => "in/s",
        TopSort::Out => "out/s",
        TopSort::Oldest => "oldest",
        TopSort::Dead => "dead",
    }
}

fn help() -> Vec<String> {
    [
        "top: the cluster live",
        "",
        "  s        sort by the next column: ready, in/s, out/s, oldest, dead, name",
        "  r        the other way round",
        "  /        show only queues whose names contain a text; Esc shows all",
        "  p        pause, or go on",
        "  ↑ ↓      scroll; PgUp and PgDn by ten",
        "  q        quit; so does Esc",
        "",
        "READY can be leased, LEASED is being worked on, DELAYED waits, DEAD is set aside.",
        "IN/s is pushed, OUT/s acked or popped. OLDEST is the age of the oldest ready",
        "message. WAIT is how many consumers wait at the leader.",
    ]
    .map(str::to_owned)
    .into()
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::view;
    use super::*;

    fn model(queues: u64) -> Model {
        let mut model = Model::default();
        model.nodes = Some(crate::nodes::tests::one_down());
        let rates = |k: u64| Some(Rates { into: k * 100, out: 12_340 - k * 10 });
        let row =
            |k| Row { view: view(&format!("a-queue-with-a-name-{k}"), [k * 100, 0, 0]), rates: rates(k) };
        model.rows = (0..queues).map(row).collect();
        model.history = (0..200).map(|k| Rates { into: k % 40 * 10, out: k % 7 * 10 }).collect();
        model
    }

    fn screen() -> Screen {
        Screen::of(&TopArgs {
            every: Duration::from_secs(1),
            count: None,
            sort: TopSort::Ready,
            filter: None,
        })
    }

    /// The lines of a frame, without what steers the terminal.
    fn drawn(frame: &str) -> Vec<String> {
        let text = frame.replace("\x1b[K", "").replace("\x1b[H", "").replace("\x1b[J", "");
        text.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn it_fits_60_80_and_120_columns_and_any_height() {
        let model = model(50);
        for (columns, rows) in [(60, 24), (80, 24), (120, 40), (80, 5), (20, 3)] {
            let lines = drawn(&screen().frame(&model, (columns, rows), Duration::from_secs(1)));
            assert_eq!(lines.len(), rows, "{columns}x{rows}: {lines:#?}");
            let widest = lines.iter().map(|line| line.chars().count()).max();
            assert!(widest <= Some(columns), "{columns}x{rows}: {lines:#?}");
        }
        let lines = drawn(&screen().frame(&model, (80, 24), Duration::from_secs(1)));
        let text = lines.join("\n");
        for word in ["UNREACHABLE", "peak", "READY", "IN/s", "OUT/s", "more, ↓", "q quit"] {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
        assert!(text.contains("a-queue-with-a-name-49"), "most ready first\n{text}");
    }

    #[test]
    fn keys_sort_filter_scroll_and_pause() {
        let model = model(50);
        let mut screen = screen();
        let names = |screen: &Screen| -> Vec<String> {
            screen.chosen(&model).iter().map(|row| row.view.name.to_string()).collect()
        };
        assert!(names(&screen)[0].ends_with("-49"));
        screen.press(Key::Char('r'));
        assert!(names(&screen)[0].ends_with("-0"));
        for _ in 0..2 {
            screen.press(Key::Char('s'));
        }
        assert_eq!(screen.sort, TopSort::Out);
        for key in "/-4".chars().map(Key::Char) {
            assert_eq!(screen.press(key), Wish::Draw);
        }
        assert_eq!(names(&screen).len(), 11, "4 and 40 to 49");
        assert!(screen.footer().contains("filter: -4"));
        screen.press(Key::Enter);
        assert_eq!(screen.press(Key::Char('p')), Wish::Draw);
        assert!(screen.is_paused());
        assert_eq!(screen.press(Key::Char(' ')), Wish::Look);
        assert_eq!(screen.press(Key::Escape), Wish::Draw, "the filter goes first");
        assert_eq!(names(&screen).len(), 50);
        for _ in 0..100 {
            screen.press(Key::PageDown);
        }
        let lines = drawn(&screen.frame(&model, (80, 24), Duration::from_secs(1)));
        assert!(!lines.join("\n").contains("more, ↓"), "it stops at the end");
        assert_eq!(screen.press(Key::Escape), Wish::Leave);
        assert_eq!(screen.press(Key::Char('q')), Wish::Leave);
    }

    #[test]
    fn a_bar_is_seen_if_there_was_anything() {
        assert_eq!([bar(0, 90), bar(1, 90), bar(90, 90), bar(0, 0)], [' ', '▁', '█', ' ']);
    }
}
