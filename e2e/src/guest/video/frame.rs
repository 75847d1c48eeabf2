//! A frame: its short header, and what clients find in its bitstream (moonlight-common-c, VideoDepacketizer.c).

/// Bytes of the header in front of the bitstream.
const HEADER: usize = 8;

/// A whole frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub number: u32,
    /// A client may begin with it: its first packet holds the parameter sets and the beginning of an IDR slice.
    pub idr: bool,
    /// From capture to the first packet, in tenths of a millisecond; none if the host does not know.
    pub host_latency: Option<u16>,
    /// Packets that parity gave back.
    pub recovered: usize,
    /// Annex B.
    pub bytes: Vec<u8>,
}

/// Makes a frame of its packets' payloads: all of them, the first one, and the length of the last one.
pub fn assemble(
    number: u32,
    mut payload: Vec<u8>,
    first: &[u8],
    last: usize,
    recovered: usize,
) -> Result<Frame, String> {
    let Some(&[kind, low, high, of, length_low, length_high, zero, also]) = payload.first_chunk::<HEADER>() else {
        return Err(format!("{} bytes have no header", payload.len()));
    };
    let length = usize::from(u16::from_le_bytes([length_low, length_high]));
    if kind != 1 || zero != 0 || also != 0 || !matches!(of, 1 | 2) {
        return Err(format!("header {:?}", &payload[..HEADER]));
    }
    // A recovered packet comes back with what padded it.
    if length > last || length < last && recovered == 0 || length == 0 {
        return Err(format!("its last packet has {last} bytes, and {length} by the header"));
    }
    let end = payload.len() - (last - length);
    if payload[end..].iter().any(|&byte| byte != 0) {
        return Err("padding that is not zero".into());
    }
    payload.truncate(end);
    let bytes = payload.split_off(HEADER);
    if !bytes.starts_with(&[0, 0, 0, 1]) && !bytes.starts_with(&[0, 0, 1]) {
        return Err("no start code behind the header".into());
    }
    let begins = idr_begins(&first[HEADER.min(first.len())..]);
    let holds = nals(&bytes).any(|(_, kind)| kind == 5);
    if (of == 2) != begins || holds != begins {
        return Err(format!("type {of}, IDR slices {holds}, in the first packet {begins}"));
    }
    let latency = u16::from_le_bytes([low, high]);
    Ok(Frame { number, idr: begins, host_latency: (latency > 0).then_some(latency), recovered, bytes })
}

/// Where NAL units begin behind their start codes, and their types.
fn nals(bytes: &[u8]) -> impl Iterator<Item = (usize, u8)> + '_ {
    let codes = bytes.windows(4).enumerate().filter(|(_, window)| window[..3] == [0, 0, 1]);
    codes.map(|(at, window)| (at + 3, window[3] & 0x1f))
}

/// As the client decides: behind AUD and SEI there is an SPS, a PPS follows, and then an IDR slice, all in this packet.
fn idr_begins(first: &[u8]) -> bool {
    let mut kinds = nals(first).map(|(_, kind)| kind).skip_while(|kind| matches!(kind, 9 | 6));
    kinds.next() == Some(7) && kinds.next() == Some(8) && kinds.find(|kind| *kind != 6) == Some(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(of: u8, length: u16, stream: &[u8]) -> Vec<u8> {
        let mut payload = vec![1, 35, 0, of];
        payload.extend(length.to_le_bytes());
        payload.extend([0, 0]);
        payload.extend_from_slice(stream);
        payload
    }

    #[test]
    fn an_idr_is_one_only_if_its_slice_begins_in_the_first_packet() {
        let stream = [0, 0, 0, 1, 9, 16, 0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 3];
        let whole = payload(2, 31, &stream);
        let frame = assemble(1, whole.clone(), &whole, 31, 0).unwrap();
        assert!(frame.idr);
        assert_eq!((frame.host_latency, frame.bytes.as_slice()), (Some(35), &stream[..]));
        assert!(assemble(1, whole.clone(), &whole[..20], 31, 0).is_err());
        assert!(assemble(1, payload(1, 31, &stream), &whole, 31, 0).is_err(), "its type is a lie");
        assert!(assemble(1, whole.clone(), &whole, 30, 0).is_err());
    }

    #[test]
    fn padding_of_a_recovered_packet_is_cut() {
        let stream = [0, 0, 0, 1, 0x41, 9, 9];
        let mut whole = payload(1, 15, &stream);
        whole.extend([0; 10]);
        let frame = assemble(2, whole.clone(), &whole, 25, 1).unwrap();
        assert_eq!(frame.bytes, stream);
        assert!(assemble(2, whole.clone(), &whole, 25, 0).is_err(), "nothing was recovered");
        *whole.last_mut().unwrap() = 1;
        assert!(assemble(2, whole.clone(), &whole, 25, 1).is_err());
    }
}
