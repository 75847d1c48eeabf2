//! Memory for shards: one buffer that grows to a fixed bound and is then reused.

/// Most shards held at once over all frames: 23 MB at the default size, more than the largest frame with its parity.
const MOST_SHARDS: usize = 20_000;

/// Names a shard in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ShardId(u32);

pub(super) struct Pool {
    stride: usize,
    bytes: Vec<u8>,
    lengths: Vec<u16>,
    free: Vec<ShardId>,
}

impl Pool {
    /// `stride` is the most bytes of a shard.
    pub(super) fn new(stride: usize) -> Self {
        Self { stride, bytes: Vec::new(), lengths: Vec::new(), free: Vec::new() }
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Keeps a shard of at most [`stride`](Self::stride) bytes, padded with zeros; `None` if all memory is in use.
    pub(super) fn keep(&mut self, shard: &[u8]) -> Option<ShardId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.lengths.len() < MOST_SHARDS => {
                let id = ShardId(self.lengths.len() as u32);
                self.lengths.push(0);
                self.bytes.resize(self.lengths.len() * self.stride, 0);
                id
            }
            None => return None,
        };
        let start = self.start(id);
        let place = &mut self.bytes[start..start + self.stride];
        place[..shard.len()].copy_from_slice(shard);
        place[shard.len()..].fill(0);
        self.lengths[id.0 as usize] = shard.len() as u16;
        Some(id)
    }

    pub(super) fn release(&mut self, id: ShardId) {
        self.free.push(id);
    }

    pub(super) fn shard(&self, id: ShardId) -> &[u8] {
        let start = self.start(id);
        &self.bytes[start..start + usize::from(self.lengths[id.0 as usize])]
    }

    /// All memory, in which a shard lies at [`start`](Self::start) and has zeros up to the stride.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn start(&self, id: ShardId) -> usize {
        id.0 as usize * self.stride
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.lengths.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_reused() {
        let mut pool = Pool::new(4);
        let ids: Vec<_> = (0..MOST_SHARDS).map(|_| pool.keep(&[1, 2, 3, 4]).unwrap()).collect();
        assert_eq!(pool.keep(&[1]), None);
        pool.release(ids[7]);
        let id = pool.keep(&[9, 9]).unwrap();
        assert_eq!((id, pool.shard(id)), (ids[7], &[9, 9][..]));
        assert_eq!(pool.bytes()[pool.start(id)..][..4], [9, 9, 0, 0], "what was there before is gone");
        assert_eq!(pool.in_use(), MOST_SHARDS);
    }
}
