//! What is promised about speed, row by row, and how it came out beside the roofline.

use std::fmt::Write as _;

use crate::roofline::load::{Measured, Workload};

/// One workload, with what is promised of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is done.
    pub name: &'static str,
    /// Words for `queuectl bench`.
    pub bench: &'static [&'static str],
    /// The same for the roofline; `None` if it has none.
    pub roofline: Option<Workload>,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// What the log keeps is filled with the same before.
    pub fills: bool,
    /// What must be reached.
    pub least: Goal,
    /// What is aimed at.
    pub aim: Goal,
}

/// A promise. What is not named is not promised.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goal {
    /// Messages a second.
    pub rate: Option<f64>,
    /// Of the roofline's rate.
    pub ratio: Option<f64>,
    /// Half take at most so many microseconds.
    pub p50_us: Option<f64>,
    /// 99 of 100 take at most so many microseconds.
    pub p99_us: Option<f64>,
    /// The same, of the roofline's.
    pub p99_ratio: Option<f64>,
    /// Processor seconds of all nodes for a million messages.
    pub cpu: Option<f64>,
    /// Messages a second, or no more than these processor seconds: where the load fills the machine as well as the nodes do.
    pub rate_or_cpu: Option<(f64, f64)>,
}

/// Two runs of the roofline around a measurement are at most this far apart, of the faster one; else the pair does not
/// count.
pub const APART_MAX: f64 = 0.2;

const NONE: Goal = Goal {
    rate: None,
    ratio: None,
    p50_us: None,
    p99_us: None,
    p99_ratio: None,
    cpu: None,
    rate_or_cpu: None,
};

const fn load(connections: usize, in_flight: usize, size: usize, batch: usize) -> Option<Workload> {
    Some(Workload { connections, in_flight, size, batch })
}

/// The rows that `queuectl bench` measures.
pub const ROWS: &[Row] = &[
    Row {
        name: "push 1 KiB, 1 in flight",
        bench: &["push", "--in-flight", "1"],
        roofline: load(1, 1, 1024, 1),
        nodes: 3,
        fills: false,
        least: Goal { ratio: Some(0.85), p99_us: Some(1_500.0), ..NONE },
        aim: Goal { ratio: Some(0.95), p50_us: Some(350.0), ..NONE },
    },
    Row {
        name: "push 1 KiB, 64 in flight, 8 connections",
        bench: &["push", "--clients", "8", "--in-flight", "8"],
        roofline: load(8, 64, 1024, 1),
        nodes: 3,
        fills: false,
        least: Goal {
            ratio: Some(0.60),
            p99_us: Some(4_000.0),
            p99_ratio: Some(3.0),
            cpu: Some(9.0),
            ..NONE
        },
        aim: Goal { ratio: Some(0.70), p99_ratio: Some(2.0), cpu: Some(6.0), ..NONE },
    },
    Row {
        name: "push 1 KiB, 1,000 in flight, 1 connection",
        bench: &["push", "--in-flight", "1000"],
        roofline: load(1, 1_000, 1024, 1),
        nodes: 3,
        fills: true,
        least: Goal { ratio: Some(0.38), p99_ratio: Some(4.0), cpu: Some(3.5), ..NONE },
        aim: Goal { ratio: Some(0.50), p99_ratio: Some(2.0), cpu: Some(2.5), ..NONE },
    },
    Row {
        name: "push 1 KiB, batches of 100, 8 in flight",
        bench: &["push", "--in-flight", "8", "--batch", "100"],
        roofline: load(1, 8, 1024, 100),
        nodes: 3,
        fills: true,
        least: Goal { ratio: Some(0.80), ..NONE },
        aim: Goal { ratio: Some(0.90), ..NONE },
    },
    Row {
        name: "push 16 B, 1,000 in flight, 1 connection",
        bench: &["push", "--in-flight", "1000", "--size", "16"],
        roofline: load(1, 1_000, 16, 1),
        nodes: 3,
        fills: false,
        least: Goal { rate: Some(480_000.0), ..NONE },
        aim: Goal { rate: Some(600_000.0), ..NONE },
    },
    Row {
        name: "push 16 KiB, 64 in flight, 8 connections",
        bench: &["push", "--clients", "8", "--in-flight", "8", "--size", "16KiB"],
        roofline: load(8, 64, 16 << 10, 1),
        nodes: 3,
        fills: true,
        least: Goal { rate: Some(12_000.0), ratio: Some(0.45), ..NONE },
        aim: Goal { rate: Some(22_000.0), ..NONE },
    },
    Row {
        name: "lease 100 + ack 100, 1 KiB",
        bench: &["pop", "--batch", "100", "--in-flight", "8"],
        roofline: None,
        nodes: 3,
        fills: false,
        least: Goal { rate: Some(120_000.0), ..NONE },
        aim: Goal { rate: Some(300_000.0), ..NONE },
    },
    Row {
        name: "push to a waiting consumer, 1 in flight",
        bench: &["roundtrip", "--in-flight", "1"],
        roofline: None,
        nodes: 3,
        fills: false,
        least: Goal { p50_us: Some(600.0), ..NONE },
        aim: Goal { p50_us: Some(350.0), ..NONE },
    },
    Row {
        name: "whole life one by one, 64 + 64 over 8 connections",
        bench: &["roundtrip", "--clients", "4", "--in-flight", "16"],
        roofline: None,
        nodes: 3,
        fills: false,
        least: Goal { rate_or_cpu: Some((50_000.0, 22.0)), ..NONE },
        aim: Goal { rate: Some(75_000.0), ..NONE },
    },
    Row {
        name: "whole life one by one, 64 + 64 over 64 connections",
        bench: &["roundtrip", "--clients", "32", "--in-flight", "2"],
        roofline: None,
        nodes: 3,
        fills: false,
        least: Goal { rate_or_cpu: Some((30_000.0, 38.0)), ..NONE },
        aim: Goal { rate: Some(40_000.0), ..NONE },
    },
    Row {
        name: "whole life, one client and one worker of 64 slots",
        bench: &["roundtrip", "--worker", "--in-flight", "64"],
        roofline: None,
        nodes: 3,
        fills: false,
        least: Goal { rate: Some(40_000.0), ..NONE },
        aim: Goal { rate: Some(60_000.0), ..NONE },
    },
    Row {
        name: "one node: push 1 KiB, 64 in flight",
        bench: &["push", "--clients", "8", "--in-flight", "8"],
        roofline: None,
        nodes: 1,
        fills: false,
        least: Goal { rate: Some(90_000.0), ..NONE },
        aim: Goal { rate: Some(200_000.0), ..NONE },
    },
];

impl Goal {
    /// Whether `measured`, at `ratio` of the roofline, is as good. Where a ratio is promised it stands for the rate: the
    /// machine may be busy with other things.
    pub fn is_reached(&self, measured: &Measured, ratio: Option<f64>, p99_ratio: Option<f64>) -> bool {
        let rate_counts = self.ratio.is_none() || ratio.is_none();
        self.ratio.zip(ratio).is_none_or(|(goal, ratio)| ratio >= goal)
            && self.rate.is_none_or(|goal| !rate_counts || measured.rate >= goal)
            && self.p50_us.is_none_or(|goal| measured.p50_us <= goal)
            && self.p99_us.is_none_or(|goal| measured.p99_us <= goal)
            && self.p99_ratio.zip(p99_ratio).is_none_or(|(goal, ratio)| ratio <= goal)
            && self.cpu.is_none_or(|goal| measured.cpu <= goal)
            && self.rate_or_cpu.is_none_or(|(rate, cpu)| measured.rate >= rate || measured.cpu <= cpu)
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.rate.map(|rate| format!("{}/s", thousands(rate))));
        parts.extend(self.ratio.map(|ratio| format!("ratio {ratio:.2}")));
        parts.extend(self.p50_us.map(|us| format!("p50 {:.2} ms", us / 1e3)));
        parts.extend(self.p99_us.map(|us| format!("p99 {:.2} ms", us / 1e3)));
        parts.extend(self.p99_ratio.map(|ratio| format!("p99 {ratio:.1} x the roofline's")));
        parts.extend(self.cpu.map(|cpu| format!("{cpu:.0} CPU s")));
        parts.extend(self.rate_or_cpu.map(|(rate, cpu)| format!("{}/s or {cpu:.0} CPU s", thousands(rate))));
        parts.join(", ")
    }
}

/// One measurement of a row, with the roofline just before it and just after it, if the row has one.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The cluster.
    pub ours: Measured,
    /// The roofline's two runs.
    pub roofs: Option<[Measured; 2]>,
}

impl Pair {
    /// Whether the machine was as fast after the measurement as before it: else a ratio says nothing.
    pub fn is_valid(&self) -> bool {
        self.roofs.is_none_or(|[before, after]| {
            before.rate.min(after.rate) >= (1.0 - APART_MAX) * before.rate.max(after.rate)
        })
    }

    /// Of the roofline's mean rate.
    pub fn ratio(&self) -> Option<f64> {
        self.roofs.map(|[before, after]| 2.0 * self.ours.rate / (before.rate + after.rate))
    }

    /// How many times the roofline's mean p99.
    pub fn p99_ratio(&self) -> Option<f64> {
        self.roofs.map(|[before, after]| 2.0 * self.ours.p99_us / (before.p99_us + after.p99_us))
    }
}

/// How a row came out.
pub fn verdict(least: bool, aim: bool) -> &'static str {
    match (least, aim) {
        (true, true) => "AIM",
        (true, false) => "reached",
        (false, _) => "MISSED",
    }
}

/// The middle one by `key`.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The pairs of one row as text: the middle of those that count, each pair, and what is promised.
pub fn report(row: &Row, pairs: &[Pair]) -> String {
    let valid: Vec<&Pair> = pairs.iter().filter(|pair| pair.is_valid()).collect();
    let middle =
        |pick: fn(&Measured) -> f64| median(&valid.iter().map(|pair| pick(&pair.ours)).collect::<Vec<_>>());
    let ours = Measured {
        rate: middle(|m| m.rate),
        p50_us: middle(|m| m.p50_us),
        p99_us: middle(|m| m.p99_us),
        cpu: middle(|m| m.cpu),
    };
    let ratio = |pick: fn(&Pair) -> Option<f64>| {
        let ratios: Vec<f64> = valid.iter().filter_map(|pair| pick(pair)).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    };
    let (ratio, p99_ratio) = (ratio(Pair::ratio), ratio(Pair::p99_ratio));
    let verdict = match valid.len() {
        0 => "INVALID",
        _ => {
            let reached = |goal: &Goal| goal.is_reached(&ours, ratio, p99_ratio);
            verdict(reached(&row.least), reached(&row.aim))
        }
    };
    let shown_ratio = ratio.zip(p99_ratio).map_or_else(String::new, |(ratio, p99)| {
        format!(" = {ratio:.2} of the roofline, p99 {p99:.1} x its")
    });
    let mut text = format!("{verdict:<8} {}\n", row.name);
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "  {name:<9} {what}");
    };
    match valid.len() {
        0 => line("measured", "nothing: the roofline was not the same before and after"),
        _ => line("measured", &format!("{}{shown_ratio}", shown(&ours))),
    }
    line("at least", &row.least.text());
    line("aim", &row.aim.text());
    for (number, pair) in pairs.iter().enumerate() {
        let mut what = shown(&pair.ours);
        if let Some([before, after]) = pair.roofs {
            let _ = write!(what, "  |  roofline {}, then {}", shown(&before), shown(&after));
        }
        if !pair.is_valid() {
            let _ = write!(what, "  |  NOT VALID: more than {:.0} % apart", APART_MAX * 100.0);
        }
        line(&format!("pair {}", number + 1), &what);
    }
    text
}

fn shown(measured: &Measured) -> String {
    format!(
        "{}/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} CPU s",
        thousands(measured.rate),
        measured.p50_us / 1e3,
        measured.p99_us / 1e3,
        measured.cpu
    )
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ours: f64, roofs: [f64; 2]) -> Pair {
        let of = |rate| Measured { rate, p99_us: 100.0, ..Measured::default() };
        Pair { ours: of(ours), roofs: Some(roofs.map(of)) }
    }

    #[test]
    fn a_pair_whose_rooflines_are_apart_does_not_count() {
        let row = Row {
            name: "row",
            bench: &[],
            roofline: load(1, 1, 1, 1),
            nodes: 3,
            fills: false,
            least: Goal { ratio: Some(0.5), ..NONE },
            aim: Goal { ratio: Some(0.8), ..NONE },
        };
        let (good, low, high) =
            (pair(60.0, [110.0, 90.0]), pair(90.0, [100.0, 79.0]), pair(90.0, [79.0, 100.0]));
        assert!(good.is_valid() && !low.is_valid() && !high.is_valid());
        assert!(report(&row, &[low, high]).starts_with("INVALID"));
        let text = report(&row, &[low, good, high]);
        assert!(text.starts_with("reached  row\n  measured  60/s"), "{text}");
        assert!(text.contains("= 0.60 of the roofline") && text.matches("NOT VALID").count() == 2, "{text}");
    }
}
