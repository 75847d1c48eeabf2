//! One frame on its way to being whole.

use super::pool::{Pool, ShardId};
use crate::fec::{Decoder, Present, Scheme, Shape, Shards, Unrecoverable};
use crate::packet::{FRAME_HEADER_BYTES, Flags, FrameHeader, Header, Kind, MAX_DATA_SHARDS, ParityHeader};

/// What became of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filed {
    Kept,
    /// It was what was missing: so many others came back from parity.
    Recovered(u64),
    Surplus,
    Malformed,
    Overflow,
}

/// Times and circumstances of a frame's arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    pub(super) first_ns: u64,
    pub(super) whole_ns: u64,
    pub(super) recovered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// No packet has come.
    #[default]
    Empty,
    Filling {
        first_ns: u64,
    },
    Whole(Arrival, FrameHeader),
    /// Its shards contradict each other: authentic, and still wrong. It counts as lost.
    Spoilt,
}

/// A place in the window. Its vectors are kept from frame to frame.
#[derive(Default)]
pub(super) struct Pending {
    state: State,
    idr: bool,
    k: Option<usize>,
    shape: Option<Shape>,
    /// By index; only as long as the highest index that came.
    data: Vec<Option<ShardId>>,
    parity: Vec<Option<ShardId>>,
    data_count: usize,
    parity_count: usize,
    overdue: Option<u64>,
}

/// Reused lists for the decoder.
#[derive(Default)]
pub(super) struct Gather {
    data_indices: Vec<usize>,
    data_starts: Vec<usize>,
    parity_indices: Vec<usize>,
    parity_starts: Vec<usize>,
    missing: Vec<usize>,
    out: Vec<u8>,
}

/// Fills a vacant place. The list grows to the index and no further.
fn place(list: &mut Vec<Option<ShardId>>, index: usize, id: ShardId) {
    if list.len() <= index {
        list.resize(index + 1, None);
    }
    list[index] = Some(id);
}

fn taken(list: &[Option<ShardId>], index: usize) -> bool {
    list.get(index).is_some_and(Option::is_some)
}

impl Pending {
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole(..))
    }

    pub(super) fn is_spoilt(&self) -> bool {
        self.state == State::Spoilt
    }

    pub(super) fn is_idr(&self) -> bool {
        self.idr
    }

    pub(super) fn may_be_idr(&self) -> bool {
        self.idr || self.state == State::Empty
    }

    /// Since when all of it should have been here.
    pub(super) fn overdue(&self) -> Option<u64> {
        self.overdue
    }

    pub(super) fn set_overdue(&mut self, now_ns: u64) {
        self.overdue.get_or_insert(now_ns);
    }

    /// Makes the place vacant.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        for id in self.data.drain(..).chain(self.parity.drain(..)).flatten() {
            pool.release(id);
        }
        self.state = State::Empty;
        self.idr = false;
        self.k = None;
        self.shape = None;
        self.data_count = 0;
        self.parity_count = 0;
        self.overdue = None;
    }

    /// Takes in one authentic shard of this frame.
    pub(super) fn file(
        &mut self,
        now_ns: u64,
        header: &Header,
        body: &[u8],
        pool: &mut Pool,
        decoder: &mut Decoder,
        gather: &mut Gather,
    ) -> Filed {
        let idr = header.flags.contains(Flags::IDR);
        match self.state {
            State::Empty => {
                self.idr = idr;
                self.state = State::Filling { first_ns: now_ns };
            }
            State::Filling { .. } if self.idr == idr => {}
            State::Filling { .. } => return Filed::Malformed,
            State::Whole(..) | State::Spoilt => return Filed::Surplus,
        }
        let index = usize::from(header.index);
        let filed = if header.kind == Kind::Data {
            self.file_data(index, header.flags.contains(Flags::LAST), body, pool)
        } else {
            self.file_parity(now_ns, index, body, pool)
        };
        if filed == Filed::Kept { self.try_whole(now_ns, pool, decoder, gather) } else { filed }
    }

    fn file_data(&mut self, index: usize, last: bool, body: &[u8], pool: &mut Pool) -> Filed {
        let Some((length, bytes)) = body.split_first_chunk::<2>() else { return Filed::Malformed };
        let fits = usize::from(u16::from_le_bytes(*length)) == bytes.len() && body.len() <= pool.stride();
        let known = self.k.or(last.then_some(index + 1));
        let inside = index < known.unwrap_or(MAX_DATA_SHARDS) && index < MAX_DATA_SHARDS;
        // A last shard must agree with what is known of k, and nothing beyond it may have come.
        let agrees = !last || (known == Some(index + 1) && self.data.len() <= index + 1);
        if !fits || !inside || !agrees {
            return Filed::Malformed;
        }
        if taken(&self.data, index) {
            return Filed::Surplus;
        }
        let Some(id) = pool.keep(body) else { return Filed::Overflow };
        self.k = known;
        place(&mut self.data, index, id);
        self.data_count += 1;
        Filed::Kept
    }

    fn file_parity(&mut self, now_ns: u64, index: usize, body: &[u8], pool: &mut Pool) -> Filed {
        let Some((header, shard)) = ParityHeader::decode(body) else { return Filed::Malformed };
        let [k, m, len] = [header.k, header.m, header.len].map(usize::from);
        let shape = Scheme::from_wire(header.scheme).and_then(|scheme| Shape::new(scheme, k, m, len));
        let Some(shape) = shape else { return Filed::Malformed };
        let agrees = self.shape.is_none_or(|known| known == shape)
            && self.k.is_none_or(|known| known == k)
            && self.data.len() <= k;
        if !agrees || index >= m || len > pool.stride() {
            return Filed::Malformed;
        }
        if taken(&self.parity, index) {
            return Filed::Surplus;
        }
        let Some(id) = pool.keep(shard) else { return Filed::Overflow };
        self.k = Some(k);
        self.shape = Some(shape);
        place(&mut self.parity, index, id);
        self.parity_count += 1;
        if index + 1 == m {
            // The frame's last packet: what has not come by now is late or lost.
            self.set_overdue(now_ns);
        }
        Filed::Kept
    }

    fn try_whole(&mut self, now_ns: u64, pool: &mut Pool, decoder: &mut Decoder, gather: &mut Gather) -> Filed {
        let (State::Filling { first_ns }, Some(k)) = (self.state, self.k) else { return Filed::Kept };
        let missing = k - self.data_count;
        if missing > self.parity_count {
            return Filed::Kept;
        }
        if missing > 0 && self.recover(k, pool, decoder, gather).is_err() {
            self.state = State::Spoilt;
            return Filed::Malformed;
        }
        // The first shard begins with the frame's header: the packetiser never cuts it.
        let first = self.data.first().copied().flatten().map(|id| &pool.shard(id)[2..]);
        let Some(header) = first.and_then(FrameHeader::decode) else {
            self.state = State::Spoilt;
            return Filed::Malformed;
        };
        self.state = State::Whole(Arrival { first_ns, whole_ns: now_ns, recovered: missing > 0 }, header);
        if missing > 0 { Filed::Recovered(missing as u64) } else { Filed::Kept }
    }

    /// Gives the missing data shards back. An authentic but inconsistent frame is refused, not guessed at.
    fn recover(
        &mut self,
        k: usize,
        pool: &mut Pool,
        decoder: &mut Decoder,
        gather: &mut Gather,
    ) -> Result<(), Unrecoverable> {
        let shape = self.shape.ok_or(Unrecoverable)?;
        let Gather { data_indices, data_starts, parity_indices, parity_starts, missing, out } = gather;
        for list in [&mut *data_indices, data_starts, parity_indices, parity_starts, missing] {
            list.clear();
        }
        self.data.resize(k, None);
        for (index, shard) in self.data.iter().enumerate() {
            match shard {
                Some(id) if pool.shard(*id).len() > shape.len() => return Err(Unrecoverable),
                Some(id) => {
                    data_indices.push(index);
                    data_starts.push(pool.start(*id));
                }
                None => missing.push(index),
            }
        }
        for (index, id) in self.parity.iter().enumerate().filter_map(|(index, id)| Some((index, (*id)?))) {
            parity_indices.push(index);
            parity_starts.push(pool.start(id));
        }
        out.resize(missing.len() * shape.len(), 0);
        let present = Present {
            data_indices,
            data: Shards::new(pool.bytes(), data_starts, shape.len()).ok_or(Unrecoverable)?,
            parity_indices,
            parity: Shards::new(pool.bytes(), parity_starts, shape.len()).ok_or(Unrecoverable)?,
            missing,
        };
        decoder.decode(shape, &present, out)?;
        for (&index, shard) in missing.iter().zip(out.chunks_exact(shape.len())) {
            let end = 2 + usize::from(u16::from_le_bytes([shard[0], shard[1]]));
            let padding = shard.get(end..).ok_or(Unrecoverable)?;
            if padding.iter().any(|&byte| byte != 0) {
                return Err(Unrecoverable);
            }
            self.data[index] = Some(pool.keep(&shard[..end]).ok_or(Unrecoverable)?);
            self.data_count += 1;
        }
        Ok(())
    }

    /// Appends a whole frame's bytes, its header left out, and tells how it arrived.
    ///
    /// # Panics
    /// If the frame is not whole: an error of the caller.
    pub(super) fn assemble(&self, pool: &Pool, out: &mut Vec<u8>) -> (FrameHeader, Arrival) {
        let State::Whole(arrival, header) = self.state else { unreachable!("only whole frames are handed on") };
        let mut skip = 2 + FRAME_HEADER_BYTES;
        for id in self.data.iter().flatten() {
            out.extend_from_slice(&pool.shard(*id)[skip..]);
            skip = 2;
        }
        (header, arrival)
    }
}
