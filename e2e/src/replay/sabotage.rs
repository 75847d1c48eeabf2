//! Makes of a sound stream one from which a picture is missing without its decoder's knowing: what a careless client would
//! decode, and what a judge must find.

use lumen_core::h264::{NalKind, Nals};

/// Bits of frame_num in the streams of openh264.
const FRAME_NUM_BITS: u32 = 15;

/// Nothing before it is needed.
pub fn is_idr(frame: &[u8]) -> bool {
    Nals::new(frame).any(|nal| nal.kind == NalKind::IdrSlice)
}

/// Gives each slice of a frame a frame_num one lower, so that a decoder does not see that a frame is missing.
pub fn renumber(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for nal in Nals::new(frame).filter(|nal| nal.kind == NalKind::Slice) {
        let header = nal.bytes.as_ptr().addr() - frame.as_ptr().addr() + 1;
        let mut at = header * 8;
        for _ in ["first_mb_in_slice", "slice_type", "pic_parameter_set_id"] {
            at = after_golomb(&bytes, at);
        }
        let number = (0..FRAME_NUM_BITS as usize).fold(0, |number, bit| number << 1 | u32::from(get(&bytes, at + bit)));
        let less = number - 1;
        for bit in 0..FRAME_NUM_BITS as usize {
            let (byte, mask) = ((at + bit) / 8, 0x80 >> ((at + bit) % 8));
            let one = less >> (FRAME_NUM_BITS as usize - 1 - bit) & 1 == 1;
            bytes[byte] = if one { bytes[byte] | mask } else { bytes[byte] & !mask };
        }
    }
    bytes
}

fn get(bytes: &[u8], bit: usize) -> bool {
    bytes[bit / 8] & 0x80 >> (bit % 8) != 0
}

/// The bit after an Exp-Golomb code.
fn after_golomb(bytes: &[u8], at: usize) -> usize {
    let zeros = (at..).take_while(|&bit| !get(bytes, bit)).count();
    at + 2 * zeros + 1
}
