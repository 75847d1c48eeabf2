//! The one heap of deadlines: a binary heap over a fixed set of keys, each at most once in it, so that it never grows
//! and a deadline can be moved without leaving a stale entry behind.

/// A time in CLOCK_MONOTONIC nanoseconds and the key that waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    pub at_ns: u64,
    pub key: usize,
}

/// Deadlines of keys `0..keys`. All storage is made in [`Deadlines::new`].
#[derive(Debug)]
pub struct Deadlines {
    heap: Vec<Due>,
    /// Where a key lies in the heap.
    place: Vec<Option<usize>>,
}

impl Deadlines {
    pub fn new(keys: usize) -> Self {
        Self { heap: Vec::with_capacity(keys), place: vec![None; keys] }
    }

    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: usize, at_ns: u64) {
        let index = match self.place[key] {
            Some(index) => {
                self.heap[index].at_ns = at_ns;
                index
            }
            None => {
                self.heap.push(Due { at_ns, key });
                self.heap.len() - 1
            }
        };
        let index = self.rise(index);
        self.sink(index);
    }

    /// Forgets the deadline of `key`.
    pub fn clear(&mut self, key: usize) {
        let Some(index) = self.place[key].take() else { return };
        self.heap.swap_remove(index);
        if index < self.heap.len() {
            let index = self.rise(index);
            self.sink(index);
        }
    }

    /// Whether `key` waits.
    pub fn holds(&self, key: usize) -> bool {
        self.place[key].is_some()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Due> {
        self.heap.first().copied()
    }

    /// Takes out the earliest key whose time has come.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<usize> {
        let due = self.next().filter(|due| due.at_ns <= now_ns)?;
        self.clear(due.key);
        Some(due.key)
    }

    fn rise(&mut self, mut index: usize) -> usize {
        while index > 0 && self.heap[index].at_ns < self.heap[(index - 1) / 2].at_ns {
            self.heap.swap(index, (index - 1) / 2);
            self.place[self.heap[index].key] = Some(index);
            index = (index - 1) / 2;
        }
        self.place[self.heap[index].key] = Some(index);
        index
    }

    fn sink(&mut self, mut index: usize) {
        loop {
            let left = 2 * index + 1;
            let Some(least) = (left..(left + 2).min(self.heap.len())).min_by_key(|&child| self.heap[child].at_ns)
            else {
                break;
            };
            if self.heap[index].at_ns <= self.heap[least].at_ns {
                break;
            }
            self.heap.swap(index, least);
            self.place[self.heap[index].key] = Some(index);
            index = least;
        }
        self.place[self.heap[index].key] = Some(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_out_in_order_and_can_be_moved() {
        let mut deadlines = Deadlines::new(4);
        deadlines.set(0, 40);
        deadlines.set(1, 10);
        deadlines.set(2, 30);
        deadlines.set(3, 20);
        deadlines.set(1, 35);
        deadlines.clear(2);
        deadlines.clear(2);
        assert_eq!(deadlines.next(), Some(Due { at_ns: 20, key: 3 }));
        assert_eq!(deadlines.pop_due(19), None);
        assert_eq!(deadlines.pop_due(100), Some(3));
        assert_eq!(deadlines.pop_due(100), Some(1));
        assert_eq!(deadlines.pop_due(100), Some(0));
        assert_eq!(deadlines.pop_due(100), None);
    }

    #[test]
    fn agrees_with_a_sorted_list_whatever_is_done_to_it() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut deadlines = Deadlines::new(16);
        let mut model = [None::<u64>; 16];
        for _ in 0..20_000 {
            let key = random(16) as usize;
            match random(4) {
                0 => {
                    deadlines.clear(key);
                    model[key] = None;
                }
                1 => {
                    let earliest = model.iter().flatten().min().copied();
                    assert_eq!(deadlines.next().map(|due| due.at_ns), earliest);
                    if let Some(key) = deadlines.pop_due(u64::MAX) {
                        assert_eq!(model[key].take(), earliest);
                    }
                }
                _ => {
                    let at = random(1_000);
                    deadlines.set(key, at);
                    model[key] = Some(at);
                }
            }
        }
        let mut left: Vec<u64> = model.iter().flatten().copied().collect();
        left.sort_unstable();
        let drained: Vec<u64> = std::iter::from_fn(|| {
            let due = deadlines.next()?;
            deadlines.pop_due(u64::MAX).map(|_| due.at_ns)
        })
        .collect();
        assert_eq!(drained, left);
    }
}
