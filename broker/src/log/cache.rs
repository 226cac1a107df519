//! A bounded map that forgets what was used longest ago.

use std::collections::BTreeMap;

/// Values by key, each with a cost.
pub(crate) struct Cache<K, V> {
    values: BTreeMap<K, (u64, usize, V)>,
    /// Last use of each key, oldest first.
    uses: BTreeMap<u64, K>,
    clock: u64,
    cost: usize,
    cost_max: usize,
}

impl<K: Ord + Copy, V: Clone> Cache<K, V> {
    pub(crate) fn new(cost_max: usize) -> Self {
        Self { values: BTreeMap::new(), uses: BTreeMap::new(), clock: 0, cost: 0, cost_max }
    }

    pub(crate) fn get(&mut self, key: K) -> Option<V> {
        let (used, _, value) = self.values.get_mut(&key)?;
        self.uses.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.uses.insert(self.clock, key);
        Some(value.clone())
    }

    /// Keeps `value`, unless it alone is too large.
    pub(crate) fn insert(&mut self, key: K, value: V, cost: usize) {
        self.remove(key);
        self.clock += 1;
        self.values.insert(key, (self.clock, cost, value));
        self.uses.insert(self.clock, key);
        self.cost += cost;
        while self.cost > self.cost_max {
            let oldest = *self.uses.first_key_value().expect("something has a cost").1;
            self.remove(oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.cost_max);
    }

    pub(crate) fn remove(&mut self, key: K) {
        if let Some((used, cost, _)) = self.values.remove(&key) {
            self.uses.remove(&used);
            self.cost -= cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut cache = Cache::new(3);
        for key in 1..=3 {
            cache.insert(key, key * 10, 1);
        }
        assert_eq!(cache.get(1), Some(10));
        cache.insert(4, 40, 1);
        assert_eq!((cache.get(1), cache.get(2), cache.get(4)), (Some(10), None, Some(40)));
        cache.insert(5, 50, 2);
        assert_eq!(
            (cache.get(3), cache.get(1), cache.get(4), cache.get(5)),
            (None, None, Some(40), Some(50))
        );
        cache.insert(6, 60, 4);
        assert_eq!((cache.get(6), cache.cost), (None, 0));
    }
}
