//! Reading and writing little-endian fields of messages whose every byte may be hostile.

use std::str;

/// The bytes did not hold what their place promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// Takes fields off the front of a slice; never reads past its end.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `length` bytes.
    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    /// A `u16` length and as many bytes of UTF-8, at most [`MAX_STRING`].
    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        let length = usize::from(self.u16()?);
        if length > MAX_STRING || length > self.rest.len() {
            return Err(Malformed);
        }
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        str::from_utf8(text).map(str::to_owned).map_err(|_| Malformed)
    }

    /// Bytes left over are as wrong as bytes missing.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Most bytes of any string on the wire.
pub(crate) const MAX_STRING: usize = 255;

/// Appends a string as [`Reader::string`] reads it; what is too long is cut at a character border.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let cut = &text[..text.floor_char_boundary(MAX_STRING)];
    out.extend_from_slice(&(cut.len() as u16).to_le_bytes());
    out.extend_from_slice(cut.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_string_is_cut_between_characters() {
        let mut out = Vec::new();
        put_string(&mut out, &"ä".repeat(200));
        assert_eq!(out.len(), 2 + 254);
        assert_eq!(Reader::new(&out).string().unwrap(), "ä".repeat(127));
    }

    #[test]
    fn a_string_longer_than_its_message_is_malformed() {
        assert_eq!(Reader::new(&[5, 0, b'a']).string(), Err(Malformed));
        assert_eq!(Reader::new(&[2, 0, 0xff, 0xfe]).string(), Err(Malformed));
        let mut long = 256u16.to_le_bytes().to_vec();
        long.resize(300, b'a');
        assert_eq!(Reader::new(&long).string(), Err(Malformed));
    }
}
