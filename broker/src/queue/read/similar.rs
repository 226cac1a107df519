//! Which queue may have been meant: the nearest name by edit distance, with bounded work.

use queue_protocol::names::QueueName;

use crate::queue::state::State;

/// Names compared on each side of where the name would stand.
const NEIGHBOURS: usize = 512;
/// Edits beyond which a name is another one, however long.
const EDITS_MAX: usize = 3;

impl State {
    /// The queue whose name is nearest to `name`, if any is near: at most one edit in three characters, and at most
    /// three. Of several the first by name. Looks at 512 names on each side in name order.
    pub fn similar(&self, name: &QueueName) -> Option<QueueName> {
        let edits_max = (name.as_str().len() / 3).clamp(1, EDITS_MAX);
        let names = self.catalog().names();
        let before = names.range(..name.clone()).rev().take(NEIGHBOURS);
        let after = names.range(name.clone()..).take(NEIGHBOURS);
        let near = before.chain(after).filter_map(|(other, _)| {
            let edits = edits(name.as_str().as_bytes(), other.as_str().as_bytes(), edits_max)?;
            (edits > 0).then_some((edits, other))
        });
        near.min().map(|(_, other)| other.clone())
    }
}

/// Insertions, deletions, substitutions and swaps of neighbours that lead from one name to the other, if at most `max`
/// (optimal string alignment, only the cells within `max` of the diagonal).
fn edits(a: &[u8], b: &[u8], max: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > max {
        return None;
    }
    let far = max + 1;
    let mut before = vec![far; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).map(|j| j.min(far)).collect();
    for i in 1..=a.len() {
        let mut row = vec![far; b.len() + 1];
        if i <= max {
            row[0] = i;
        }
        for j in i.saturating_sub(max).max(1)..=(i + max).min(b.len()) {
            let substituted = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row[j] = least.min(far);
        }
        if row.iter().all(|edits| *edits == far) {
            return None;
        }
        before = std::mem::replace(&mut above, row);
    }
    Some(above[b.len()]).filter(|edits| *edits <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_up_to_the_limit() {
        let count = |a: &str, b: &str| edits(a.as_bytes(), b.as_bytes(), 3);
        assert_eq!(count("orders", "orders"), Some(0));
        assert_eq!(count("oders", "orders"), Some(1));
        assert_eq!(count("jbos", "jobs"), Some(1));
        assert_eq!(count("mail", "snail"), Some(2));
        assert_eq!(count("", "abc"), Some(3));
        assert_eq!(count("abc", "xyz"), Some(3));
        assert_eq!(count("abcd", "wxyz"), None);
        assert_eq!(count("a", "abcde"), None);
    }
}
