//! Walking an H.264 byte stream (ITU-T H.264 Annex B): where its NAL units begin and what they are. Nothing is decoded.

/// What a NAL unit holds, as far as anybody here asks (`nal_unit_type`, H.264 table 7-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NalKind {
    /// 1 to 4: a slice that needs other pictures, or part of one.
    Slice,
    /// 5: a slice of an IDR picture.
    IdrSlice,
    /// 6: supplemental information.
    Sei,
    /// 7: sequence parameter set.
    Sps,
    /// 8: picture parameter set.
    Pps,
    /// 9: access unit delimiter.
    Delimiter,
    Other(u8),
}

impl NalKind {
    fn of(first: u8) -> Self {
        match first & 0x1f {
            1..=4 => Self::Slice,
            5 => Self::IdrSlice,
            6 => Self::Sei,
            7 => Self::Sps,
            8 => Self::Pps,
            9 => Self::Delimiter,
            other => Self::Other(other),
        }
    }

    /// Whether this is coded picture data.
    pub const fn is_slice(self) -> bool {
        matches!(self, Self::Slice | Self::IdrSlice)
    }
}

/// One NAL unit of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nal<'a> {
    pub kind: NalKind,
    /// Where its start code begins, in bytes from the stream's start; a fourth zero byte belongs to it.
    pub start: usize,
    /// From the NAL header byte to before the next start code.
    pub bytes: &'a [u8],
}

/// Iterates over the NAL units of an Annex B stream. Bytes before the first start code are passed over.
pub struct Nals<'a> {
    stream: &'a [u8],
    /// First byte after the start code that was found last.
    next: Option<(usize, usize)>,
}

/// The next start code at or after `from`: where it begins (its optional zero_byte included) and where it ends.
fn start_code(stream: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        // The one is the rarest of the three bytes, so it is what to look for.
        at += stream.get(at..)?.iter().position(|&byte| byte == 1)?;
        if at >= from + 2 && stream[at - 1] == 0 && stream[at - 2] == 0 {
            let four = at >= from + 3 && stream[at - 3] == 0;
            return Some((at - if four { 3 } else { 2 }, at + 1));
        }
        at += 1;
    }
}

impl<'a> Nals<'a> {
    pub fn new(stream: &'a [u8]) -> Self {
        Self { stream, next: start_code(stream, 0) }
    }
}

impl<'a> Iterator for Nals<'a> {
    type Item = Nal<'a>;

    fn next(&mut self) -> Option<Nal<'a>> {
        loop {
            let (start, body) = self.next?;
            self.next = start_code(self.stream, body);
            let end = self.next.map_or(self.stream.len(), |(next, _)| next);
            let bytes = &self.stream[body..end];
            // Two start codes in a row hold nothing between them.
            if let Some(&first) = bytes.first() {
                return Some(Nal { kind: NalKind::of(first), start, bytes });
            }
        }
    }
}

/// Whether an access unit is an IDR picture.
pub fn is_idr(stream: &[u8]) -> bool {
    Nals::new(stream).find(|nal| nal.kind.is_slice()).is_some_and(|nal| nal.kind == NalKind::IdrSlice)
}

/// Whether a decoder can begin with this access unit: parameter sets before an IDR slice.
pub fn can_begin(stream: &[u8]) -> bool {
    let mut seen = (false, false);
    for nal in Nals::new(stream) {
        match nal.kind {
            NalKind::Sps => seen.0 = true,
            NalKind::Pps => seen.1 = true,
            NalKind::IdrSlice => return seen == (true, true),
            NalKind::Slice => return false,
            _ => {}
        }
    }
    false
}

/// Cuts an access unit before each slice but the first: whatever precedes a slice (parameter sets, SEI) goes with it.
/// The pieces cover the stream without a gap.
pub fn split_slices(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut nals = Nals::new(stream);
    let mut from = 0;
    let mut done = stream.is_empty();
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        while let Some(nal) = nals.next() {
            if nal.kind.is_slice() {
                // The piece ends where the next NAL unit of any kind begins.
                let Some((end, _)) = nals.next else { break };
                let piece = &stream[from..end];
                from = end;
                return Some(piece);
            }
        }
        done = true;
        Some(&stream[from..])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDR: &[u8] = &[
        0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x06, 9, 0, 0, 1, 0x65, 4, 0, 0, 3, 1, 0, 0, 1, 0x65, 5,
    ];

    #[test]
    fn finds_units_behind_both_start_codes() {
        let kinds: Vec<_> = Nals::new(IDR).map(|nal| (nal.kind, nal.start, nal.bytes.len())).collect();
        let expected = [
            (NalKind::Sps, 0, 3),
            (NalKind::Pps, 7, 2),
            (NalKind::Sei, 13, 2),
            (NalKind::IdrSlice, 18, 6),
            (NalKind::IdrSlice, 27, 2),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn tells_pictures_apart() {
        assert!(is_idr(IDR) && can_begin(IDR));
        assert!(is_idr(&IDR[18..]) && !can_begin(&IDR[18..]), "no parameter sets");
        let predicted = [0, 0, 1, 0x41, 1, 2];
        assert!(!is_idr(&predicted) && !can_begin(&predicted));
        assert!(!is_idr(&[]) && !is_idr(&[0, 0, 1]) && !is_idr(&[1, 0, 0]));
    }

    #[test]
    fn slices_keep_what_precedes_them() {
        let pieces: Vec<_> = split_slices(IDR).collect();
        assert_eq!(pieces, [&IDR[..27], &IDR[27..]]);
        assert_eq!(split_slices(&[]).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200)) {
            let mut last = 0;
            for nal in Nals::new(&bytes) {
                prop_assert!(nal.start >= last && !nal.bytes.is_empty());
                last = nal.start + nal.bytes.len();
            }
            let pieces: Vec<u8> = split_slices(&bytes).flatten().copied().collect();
            prop_assert_eq!(pieces, bytes);
        }
    }
}
