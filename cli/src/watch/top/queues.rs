//! The queues as a table.

use super::model::{Rates, Row};
use super::picture::per_second;
use crate::show::render;
use crate::show::table::{Align, Table};

/// One queue a row.
pub(super) fn table(rows: &[&Row], width: Option<usize>) -> String {
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
