//! What the system says of this process.

use prometheus_client::registry::Unit;

use super::page::Page;

/// Adds what is known at this Unix time in milliseconds; what the system does not tell is left out.
pub(super) fn add(page: &mut Page, wall_ms: u64) {
    if let Some(cpu) = cpu_seconds() {
        page.counter("process_cpu", Some(Unit::Seconds), "Processor time of this process", cpu);
    }
    if let Some(resident) = resident_bytes() {
        page.gauge("process_resident_memory", Some(Unit::Bytes), "Memory that is resident", resident);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", None, "File descriptors that are open", float(open.count() as u64));
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or(f64::INFINITY, float);
    page.gauge("process_max_fds", None, "File descriptors that may be open", limit);
    if let Some(start) = start_seconds(wall_ms) {
        page.gauge("process_start_time", Some(Unit::Seconds), "When it started, Unix time", start);
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats, exact up to 2^53")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

fn ticks() -> f64 {
    float(rustix::param::clock_ticks_per_second())
}

/// Fields of `/proc/self/stat` behind the name, which may hold anything.
fn stat(field: usize) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat(11)? + stat(12)?) / ticks())
}

fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(float(pages * rustix::param::page_size() as u64))
}

/// From the time since boot, which is told in hundredths; a jump of the wall clock does not matter much here.
fn start_seconds(wall_ms: u64) -> Option<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some((float(wall_ms) / 1_000.0 - uptime + stat(19)? / ticks()).round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn this_process_uses_something_and_began_lately() {
        assert!(cpu_seconds().is_some_and(|cpu| (0.0..1e6).contains(&cpu)));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1e5));
        let now = SystemClock.wall_ms();
        let age = float(now) / 1_000.0 - start_seconds(now).unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age} s");
    }
}
