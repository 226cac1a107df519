//! Rates as a picture of one line each.

use std::collections::VecDeque;

use super::model::Rates;
use crate::show::render;

/// Heights of a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What went in and out lately, a bar a look.
pub(super) fn picture(history: &VecDeque<Rates>, columns: usize) -> Vec<String> {
    let last = history.back().copied().unwrap_or_default();
    let line = |name: &str, now: u64, of: fn(&Rates) -> u64| {
        let peak = history.iter().map(of).max().unwrap_or(0);
        let title = format!("{name:<3} {:>8}/s  peak {:>8}/s  ", per_second(now), per_second(peak));
        let room = columns.saturating_sub(title.chars().count());
        let bars = history.iter().skip(history.len().saturating_sub(room)).map(|rates| bar(of(rates), peak));
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

/// Tenths of a message a second, for people.
pub(super) fn per_second(tenths: u64) -> String {
    if tenths >= 10_000 { render::count(tenths / 10) } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_seen_if_there_was_anything() {
        assert_eq!([bar(0, 90), bar(1, 90), bar(90, 90), bar(0, 0)], [' ', '▁', '█', ' ']);
    }
}
