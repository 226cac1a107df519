//! How `top` looks, and what keys do to it.

use std::cmp::Reverse;
use std::time::Duration;

use queue_protocol::names::QueueName;

use super::keys::Key;
use super::model::{Model, Rates, Row};
use super::picture::picture;
use super::queues;
use crate::grammar::{TopArgs, TopSort};
use crate::show::clock;
use crate::show::render;

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
    /// All queues that were chosen when it was drawn last, in order.
    order: Vec<QueueName>,
    /// The queue that is marked, which stays marked wherever it moves; the first one until another was chosen.
    marked: Option<QueueName>,
    opened: Option<QueueName>,
    /// Lines above the first that is shown of the opened queue.
    scrolled: usize,
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
            order: Vec::new(),
            marked: None,
            opened: None,
            scrolled: 0,
        }
    }

    /// The queue that is shown alone.
    pub(super) fn opened(&self) -> Option<&QueueName> {
        self.opened.as_ref()
    }

    /// Where the marked queue is among those that were drawn.
    fn at(&self) -> usize {
        let marked = self.marked.as_ref();
        marked.and_then(|marked| self.order.iter().position(|name| name == marked)).unwrap_or(0)
    }

    /// Marks another queue, or scrolls the opened one.
    fn step(&mut self, by: isize) {
        if self.opened.is_some() {
            self.scrolled = self.scrolled.saturating_add_signed(by);
            return;
        }
        let last = self.order.len().saturating_sub(1);
        self.marked = self.order.get(self.at().saturating_add_signed(by).min(last)).cloned();
    }

    /// What is chosen has changed: it begins at the top.
    fn begin_anew(&mut self) {
        (self.offset, self.marked) = (0, None);
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
            self.begin_anew();
            return Wish::Draw;
        }
        match key {
            Key::Char('q') => return Wish::Leave,
            Key::Escape | Key::Enter | Key::Backspace if !self.help && self.opened.is_some() => {
                self.opened = None;
            }
            Key::Enter if !self.help => {
                self.opened = self.order.get(self.at()).cloned();
                (self.marked, self.scrolled) = (self.opened.clone(), 0);
                return Wish::Look;
            }
            Key::Escape if !self.help && self.filter.is_empty() => return Wish::Leave,
            Key::Escape => (self.help, self.filter) = (false, String::new()),
            Key::Char('s') => {
                let at = SORTS.iter().position(|sort| *sort == self.sort).unwrap_or(0);
                self.sort = SORTS[(at + 1) % SORTS.len()];
                self.begin_anew();
            }
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('/') => self.typing = true,
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                return if self.paused { Wish::Draw } else { Wish::Look };
            }
            Key::Char('?' | 'h') => self.help = !self.help,
            Key::Down | Key::Char('j') => self.step(1),
            Key::Up | Key::Char('k') => self.step(-1),
            Key::PageDown => self.step(10),
            Key::PageUp => self.step(-10),
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
        let (mut lines, marked) = match (self.help, self.opened.is_some()) {
            (true, _) => (help(), None),
            (false, true) => (self.opened_lines(model, (columns, rows), every), None),
            (false, false) => self.lines(model, (columns, rows), every),
        };
        let footer = self.footer();
        lines.truncate(rows.saturating_sub(1));
        lines.resize(rows.saturating_sub(1), String::new());
        lines.push(footer);
        let mut frame = "\x1b[H".to_owned();
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                frame.push_str("\r\n");
            }
            let shown = line.chars().take(columns);
            if marked == Some(at) {
                // To the end of the line, as the bar it is.
                frame.push_str("\x1b[7m");
                frame.extend(shown.chain(std::iter::repeat(' ')).take(columns));
                frame.push_str("\x1b[27m");
            } else {
                frame.extend(shown);
                frame.push_str("\x1b[K");
            }
        }
        frame.push_str("\x1b[J");
        frame
    }

    /// All of it once, for a reader that is no terminal.
    pub(super) fn text(&self, model: &Model, width: Option<usize>) -> String {
        let mut text = format!("{}\n", header(model));
        text.push_str(&nodes(model, width));
        text.push_str(&queues::table(&self.chosen(model), width));
        text
    }

    fn title(&self, model: &Model, every: Duration) -> String {
        let now = clock::time_of_day(clock::unix_ms_in(Duration::ZERO));
        let every = if self.paused {
            "PAUSED".to_owned()
        } else {
            format!("every {}", humantime::format_duration(every))
        };
        format!("{}  {every}  {now}", header(model))
    }

    /// What there is to one queue, as far as it was scrolled.
    fn opened_lines(
        &mut self,
        model: &Model,
        (columns, rows): (usize, usize),
        every: Duration,
    ) -> Vec<String> {
        let mut lines = vec![self.title(model, every), String::new()];
        let all = model.opened_lines(columns);
        // The footer has a line.
        let room = rows.saturating_sub(lines.len() + 1);
        self.scrolled = self.scrolled.min(all.len().saturating_sub(room));
        lines.extend(all.into_iter().skip(self.scrolled));
        lines
    }

    /// All queues, and which line is marked.
    fn lines(
        &mut self,
        model: &Model,
        (columns, rows): (usize, usize),
        every: Duration,
    ) -> (Vec<String>, Option<usize>) {
        let mut lines = vec![self.title(model, every), String::new()];
        lines.extend(nodes(model, Some(columns)).lines().map(str::to_owned));
        lines.push(String::new());
        lines.extend(picture(&model.history, columns));
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
        self.order = chosen.iter().map(|row| row.view.name.clone()).collect();
        let at = self.at();
        // What is marked is seen; the last line may say how many more there are.
        let seen = if shown > room { room.saturating_sub(1) } else { room }.max(1);
        self.offset = self.offset.min(at).max((at + 1).saturating_sub(seen)).min(shown.saturating_sub(room));
        let below = shown.saturating_sub(self.offset + room);
        chosen.drain(..self.offset);
        // Widths follow all that is chosen, so that columns stay where they are while one scrolls.
        let mut table: Vec<String> =
            queues::table(&chosen, Some(columns)).lines().map(str::to_owned).collect();
        if below > 0 && room > 0 {
            table.truncate(room);
            table.push(format!("… {} more, ↓ scrolls", render::count(below as u64 + 1)));
        }
        let marked = (shown > 0 && room > 0).then_some(lines.len() + 1 + at - self.offset);
        lines.extend(table);
        (lines, marked)
    }

    fn footer(&self) -> String {
        if self.typing {
            return format!("filter: {}▏  Enter keeps it, Esc drops it", self.filter);
        }
        if self.opened.is_some() {
            return "Esc back  ↑↓ scroll  p pause  q quit  ? help".to_owned();
        }
        "q quit  Enter open  s sort  r reverse  / filter  p pause  ? help".to_owned()
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

/// Lines of what an operator should look after.
const ALARMS_MAX: usize = 4;

/// The nodes, and under them what is not as it should be.
fn nodes(model: &Model, width: Option<usize>) -> String {
    let Some(nodes) = &model.nodes else { return String::new() };
    let alarms = nodes.alarms();
    let hidden = alarms.len().saturating_sub(ALARMS_MAX);
    let shown = alarms.iter().take(ALARMS_MAX).map(|alarm| format!("! {alarm}\n"));
    let more = (hidden > 0).then(|| format!("! and {hidden} more: queuectl cluster status\n"));
    shown.chain(more).fold(nodes.table(width), |text, line| text + &line)
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
        "  ↑ ↓      mark another queue; PgUp and PgDn by ten",
        "  Enter    open the marked queue: its states and rates, who works on it and",
        "           waits for it, what holds it back, its groups; Esc goes back",
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
    use super::super::opened::tests::opened;
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
        let steers = ["\x1b[K", "\x1b[H", "\x1b[J", "\x1b[7m", "\x1b[27m"];
        let text = steers.iter().fold(frame.to_owned(), |text, steer| text.replace(steer, ""));
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
        for word in
            ["UNREACHABLE", "! n3 does not count", "peak", "READY", "IN/s", "OUT/s", "more, ↓", "q quit"]
        {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
        assert!(text.contains("a-queue-with-a-name-49"), "most ready first\n{text}");
    }

    #[test]
    fn an_opened_queue_fits_60_80_and_120_columns_and_scrolls_to_its_last_group() {
        let mut model = model(50);
        model.rows.push(Row { view: view("jobs", [7, 0, 0]), rates: None });
        model.opened = opened(40);
        let mut screen = screen();
        screen.opened = model.opened.name.clone();
        for (columns, rows) in [(60, 24), (80, 24), (120, 40), (80, 5), (20, 3)] {
            let lines = drawn(&screen.frame(&model, (columns, rows), Duration::from_secs(1)));
            assert_eq!(lines.len(), rows, "{columns}x{rows}: {lines:#?}");
            let widest = lines.iter().map(|line| line.chars().count()).max();
            assert!(widest <= Some(columns), "{columns}x{rows}: {lines:#?}");
        }
        let mut text = || drawn(&screen.frame(&model, (80, 24), Duration::from_secs(1))).join("\n");
        let first = text();
        for word in
            ["queue jobs", "7 ready", "CONSUMER", "a-worker", "GROUP", "nothing holds jobs back", "Esc back"]
        {
            assert!(first.contains(word), "{word} is not in\n{first}");
        }
        assert!(!first.contains("a-group-with-a-name-39"));
        for _ in 0..100 {
            screen.press(Key::PageDown);
        }
        let last = drawn(&screen.frame(&model, (80, 24), Duration::from_secs(1)));
        assert!(last[22].contains("a-group-with-a-name-39"), "{last:#?}");
        assert_eq!(screen.press(Key::Escape), Wish::Draw);
        assert!(screen.opened().is_none());
    }

    #[test]
    fn the_marked_queue_is_seen_stays_marked_where_it_moves_and_is_what_enter_opens() {
        let mut model = model(50);
        let mut screen = screen();
        let every = Duration::from_secs(1);
        let marked = |frame: &str| -> String {
            let begin = frame.find("\x1b[7m").expect("one is marked") + 4;
            frame[begin..].split_whitespace().next().expect("a name").to_owned()
        };
        assert!(marked(&screen.frame(&model, (80, 24), every)).ends_with("-49"), "the first");
        for _ in 0..30 {
            screen.press(Key::Down);
        }
        assert!(marked(&screen.frame(&model, (80, 24), every)).ends_with("-19"), "it scrolls with it");
        model.rows[19].view.ready = 9_000;
        assert!(marked(&screen.frame(&model, (80, 24), every)).ends_with("-19"), "which is the first now");
        screen.press(Key::Down);
        assert!(marked(&screen.frame(&model, (80, 24), every)).ends_with("-49"), "and that is below it");
        // Keys that came together count one after the other.
        screen.press(Key::Down);
        assert_eq!(screen.press(Key::Enter), Wish::Look);
        assert!(screen.opened().is_some_and(|name| name.as_str().ends_with("-48")));
        screen.press(Key::Enter);
        model.rows.clear();
        screen.frame(&model, (80, 24), every);
        screen.press(Key::Down);
        screen.press(Key::Enter);
        assert!(screen.opened().is_none(), "there is none to open");
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
        screen.frame(&model, (80, 24), Duration::from_secs(1));
        for _ in 0..100 {
            screen.press(Key::PageDown);
        }
        let lines = drawn(&screen.frame(&model, (80, 24), Duration::from_secs(1)));
        assert!(!lines.join("\n").contains("more, ↓"), "it stops at the end");
        assert_eq!(screen.press(Key::Escape), Wish::Leave);
        assert_eq!(screen.press(Key::Char('q')), Wish::Leave);
    }
}
