//! How a frame's packets are split into blocks, and how much parity each gets.
//!
//! A packet doesn't say how many parity packets its block has: it names a percentage, and clients work the number out.
//! So the number is chosen among those that a percentage gives.

/// Most packets of a block, parity included: shards of a code over GF(2^8).
pub(super) const BLOCK_PACKETS: usize = 255;
/// Blocks of a frame: two bits number them.
pub(super) const FRAME_BLOCKS: usize = 4;
/// Most data packets of a block that leaves room for the parity of one percent.
pub(super) const MOST_DATA: usize = 252;

/// What clients make of a percentage (moonlight-common-c, RtpVideoQueue.c).
const fn parity_of(data: usize, percent: usize) -> usize {
    (data * percent).div_ceil(100)
}

/// One block's packets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Block {
    pub data: usize,
    pub parity: usize,
    /// From which a client knows `parity`.
    pub percent: u8,
}

impl Block {
    /// The least parity that is at least `wished` and can be said, or else the most that can. `None` unless `data` is 1
    /// to [`MOST_DATA`].
    fn new(data: usize, wished: usize) -> Option<Self> {
        if !(1..=MOST_DATA).contains(&data) {
            return None;
        }
        let most = (BLOCK_PACKETS - data) * 100 / data;
        // The least percentage that gives more than `wished - 1`.
        let least = wished.saturating_sub(1) * 100 / data + 1;
        let percent = least.min(most).min(usize::from(u8::MAX));
        Some(Self { data, parity: parity_of(data, percent), percent: percent as u8 })
    }

    /// Whether the size of a block, and not what a percentage can say, keeps the parity below what was wished.
    fn crowded(&self, wished: usize) -> bool {
        self.parity < wished && self.percent < u8::MAX
    }
}

/// The blocks of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Split {
    blocks: [Block; FRAME_BLOCKS],
    count: usize,
    lessened: bool,
}

impl Split {
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks[..self.count]
    }

    /// Whether a block has less parity than was wished, because the frame is so large.
    pub(super) fn lessened(&self) -> bool {
        self.lessened
    }
}

/// Splits so many data packets into as few equal blocks as can have the parity that is `wished` for a block of so many;
/// where not even four can, into four with what fits. `None` for no packets, or more than four blocks hold.
pub(super) fn split(packets: usize, mut wished: impl FnMut(usize) -> usize) -> Option<Split> {
    (1..=FRAME_BLOCKS).find_map(|count| {
        let mut split = Split { blocks: [Block::default(); FRAME_BLOCKS], count, lessened: false };
        for (number, block) in split.blocks[..count].iter_mut().enumerate() {
            let data = packets / count + usize::from(number < packets % count);
            let wished = wished(data);
            *block = Block::new(data, wished)?;
            split.lessened |= block.crowded(wished);
        }
        (!split.lessened || count == FRAME_BLOCKS).then_some(split)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_parity_that_its_percentage_gives() {
        for data in 1..=MOST_DATA {
            for wished in 2..=BLOCK_PACKETS {
                let block = Block::new(data, wished).unwrap();
                #[allow(clippy::manual_div_ceil, reason = "the client's formula, as it is written there")]
                let heard = |percent: usize| (data * percent + 99) / 100;
                let percent = usize::from(block.percent);
                assert_eq!(block.parity, heard(percent));
                assert!(percent >= 1 && block.parity >= 2 && data + block.parity <= BLOCK_PACKETS);
                if block.parity >= wished {
                    assert!(heard(percent - 1) < wished, "{data}: {percent} is more than {wished} needs");
                } else {
                    assert!(percent == 255 || data + heard(percent + 1) > BLOCK_PACKETS);
                    assert_eq!(block.crowded(wished), percent < 255);
                }
            }
        }
        assert_eq!(Block::new(0, 2), None);
        assert_eq!(Block::new(MOST_DATA + 1, 2), None);
    }

    #[test]
    fn a_frame_has_as_few_blocks_as_its_parity_allows() {
        let fifth = |data: usize| data.div_ceil(5).max(2);
        let shapes = |packets| {
            let split = split(packets, fifth).unwrap();
            let blocks: Vec<_> = split.blocks().iter().map(|block| (block.data, block.parity)).collect();
            (blocks, split.lessened())
        };
        assert_eq!(shapes(1), (vec![(1, 2)], false));
        assert_eq!(shapes(59), (vec![(59, 12)], false));
        assert_eq!(shapes(212), (vec![(212, 43)], false));
        assert_eq!(shapes(213), (vec![(107, 22), (106, 22)], false));
        assert_eq!(shapes(848), (vec![(212, 43); 4], false));
        assert_eq!(shapes(924), (vec![(231, 24); 4], true));
        assert_eq!(shapes(1008), (vec![(252, 3); 4], true));
        assert_eq!(split(1009, fifth), None);
        assert_eq!(split(0, fifth), None);
    }

    /// A frame of one packet cannot say more than 255 %; more blocks would be no help.
    #[test]
    fn small_frames_stay_in_one_block() {
        for packets in 1..=4 {
            let split = split(packets, |_| 200).unwrap();
            assert_eq!((split.blocks().len(), split.lessened()), (1, false));
            assert_eq!(split.blocks()[0].parity, (packets * 255).div_ceil(100));
        }
    }

    #[test]
    fn no_data_is_lost_in_splitting() {
        for packets in 1..=FRAME_BLOCKS * MOST_DATA {
            for percent in [2, 20, 60, 150] {
                let split = split(packets, |data| (data * percent).div_ceil(100).max(2)).unwrap();
                assert_eq!(split.blocks().iter().map(|block| block.data).sum::<usize>(), packets);
                assert!(split.blocks().iter().all(|block| block.parity >= 2));
                assert!(split.blocks().is_sorted_by(|a, b| a.data == b.data || a.data == b.data + 1));
            }
        }
    }
}
