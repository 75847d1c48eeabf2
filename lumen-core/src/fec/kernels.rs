//! The one loop of scheme 1: `out[r] ^= sum over i of c[r][i] * in[i]` over GF(2^8), by the widest instructions there
//! are. The only unsafe code of this crate.
#![allow(unsafe_code)]

use super::Shards;
use super::field::{MATRICES, NIBBLES};

/// Which instructions do the work. All give the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kernel(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Gfni,
}

impl Kernel {
    /// The fastest this machine has.
    pub fn best() -> Self {
        // At least the scalar one is always there.
        Self::available().next().unwrap_or(Self(Kind::Scalar))
    }

    /// Every kernel this machine can run, fastest first. A `Kernel` that exists can be run: this is the only place
    /// that makes one.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vector = {
            let gfni = is_x86_feature_detected!("gfni")
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw");
            let avx2 = is_x86_feature_detected!("avx2");
            [gfni.then_some(Self(Kind::Gfni)), avx2.then_some(Self(Kind::Avx2))].into_iter().flatten()
        };
        #[cfg(not(target_arch = "x86_64"))]
        let vector = std::iter::empty();
        vector.chain([Self(Kind::Scalar)])
    }

    /// For people: "avx512-gfni", "avx2" or "scalar".
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni => "avx512-gfni",
        }
    }

    /// Adds to each of the rows in `out` (one after the other, each as long as a shard) its combination of `input`.
    /// `coefficients` holds a row after the other, one byte for each input. `scratch` is reused memory.
    ///
    /// # Panics
    /// If `coefficients` or `out` do not fit the number of rows: an error of the caller.
    pub fn combine(self, coefficients: &[u8], input: Shards<'_>, out: &mut [u8], scratch: &mut Vec<u64>) {
        let (n, len) = (input.count(), input.shard_len());
        if n == 0 || len == 0 {
            return;
        }
        let rows = out.len() / len;
        assert!(out.len() == rows * len && coefficients.len() == rows * n);
        match self.0 {
            Kind::Scalar => scalar(coefficients, input, out, 0),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => {
                let whole = len / 32 * 32;
                // SAFETY: a kernel of this kind exists only where `available` has detected AVX2.
                unsafe { x86::avx2(coefficients, input, out, whole) };
                scalar(coefficients, input, out, whole);
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Gfni => {
                scratch.clear();
                scratch.extend(coefficients.iter().map(|&c| MATRICES[usize::from(c)]));
                // SAFETY: a kernel of this kind exists only where `available` has detected AVX-512 F, BW and GFNI.
                unsafe { x86::gfni(scratch, input, out) };
            }
        }
        // Without vector instructions the matrices and the scratch are not needed.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (scratch, &MATRICES);
    }
}

/// From byte `from` of each shard to its end.
fn scalar(coefficients: &[u8], input: Shards<'_>, out: &mut [u8], from: usize) {
    let (n, len) = (input.count(), input.shard_len());
    if from == len {
        return;
    }
    for (row, out) in coefficients.chunks_exact(n).zip(out.chunks_exact_mut(len)) {
        for (i, &c) in row.iter().enumerate() {
            let table = &NIBBLES[usize::from(c)];
            for (sum, &byte) in out[from..].iter_mut().zip(&input.get(i)[from..]) {
                *sum ^= table[usize::from(byte & 15)] ^ table[16 + usize::from(byte >> 4)];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{NIBBLES, Shards};

    /// Rows whose sums stay in registers while the inputs stream by: each input is loaded once for all of them.
    const ROWS: usize = 8;

    /// # Safety
    /// The processor has AVX-512 F and BW and GFNI.
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    pub(super) unsafe fn gfni(matrices: &[u64], input: Shards<'_>, out: &mut [u8]) {
        let (n, len) = (input.count(), input.shard_len());
        let mut groups = matrices.chunks(ROWS * n).zip(out.chunks_mut(ROWS * len));
        groups.by_ref().for_each(|(matrices, out)| match out.len() / len {
            1 => gfni_rows::<1>(matrices, input, out),
            2 => gfni_rows::<2>(matrices, input, out),
            3 => gfni_rows::<3>(matrices, input, out),
            4 => gfni_rows::<4>(matrices, input, out),
            5 => gfni_rows::<5>(matrices, input, out),
            6 => gfni_rows::<6>(matrices, input, out),
            7 => gfni_rows::<7>(matrices, input, out),
            _ => gfni_rows::<ROWS>(matrices, input, out),
        });
    }

    /// `R` rows over all columns, 64 bytes at a time, the last of them masked.
    #[target_feature(enable = "avx512f,avx512bw,gfni")]
    fn gfni_rows<const R: usize>(matrices: &[u64], input: Shards<'_>, out: &mut [u8]) {
        let (n, len) = (input.count(), input.shard_len());
        assert!(matrices.len() == R * n && out.len() == R * len);
        let mut at = 0;
        while at < len {
            let mask: __mmask64 = if len - at >= 64 { !0 } else { (1 << (len - at)) - 1 };
            let mut sums = [_mm512_setzero_si512(); R];
            for (r, sum) in sums.iter_mut().enumerate() {
                // SAFETY: row `r` has `len` bytes in `out` (asserted above); `mask` admits those from `at` to its end.
                *sum = unsafe { _mm512_maskz_loadu_epi8(mask, out.as_ptr().add(r * len + at).cast()) };
            }
            for i in 0..n {
                // SAFETY: every shard has `len` bytes (checked by `get`); `mask` admits those from `at` to its end.
                let byte = unsafe { _mm512_maskz_loadu_epi8(mask, input.get(i).as_ptr().add(at).cast()) };
                for (r, sum) in sums.iter_mut().enumerate() {
                    let matrix = _mm512_set1_epi64(matrices[r * n + i].cast_signed());
                    *sum = _mm512_xor_si512(*sum, _mm512_gf2p8affine_epi64_epi8::<0>(byte, matrix));
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                // SAFETY: as for the load of the same place.
                unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().add(r * len + at).cast(), mask, *sum) };
            }
            at += 64;
        }
    }

    /// The first `whole` bytes of every row, a multiple of 32.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(coefficients: &[u8], input: Shards<'_>, out: &mut [u8], whole: usize) {
        let (n, len) = (input.count(), input.shard_len());
        assert!(whole <= len && whole.is_multiple_of(32));
        let low = _mm256_set1_epi8(15);
        for (row, out) in coefficients.chunks_exact(n).zip(out.chunks_exact_mut(len)) {
            // Two inputs' tables at a time halve the trips of the sums through memory.
            for (pair, coefficients) in row.chunks(2).enumerate() {
                let first = input.get(pair * 2);
                let (second, c1) = match coefficients {
                    [_, c1] => (input.get(pair * 2 + 1), *c1),
                    _ => (first, 0),
                };
                let [l0, h0] = tables(coefficients[0]);
                let [l1, h1] = tables(c1);
                for at in (0..whole).step_by(32) {
                    // SAFETY: `at + 32 <= whole <= len`, and all three slices have `len` bytes.
                    unsafe {
                        let a = _mm256_loadu_si256(first.as_ptr().add(at).cast());
                        let b = _mm256_loadu_si256(second.as_ptr().add(at).cast());
                        let place: *mut __m256i = out.as_mut_ptr().add(at).cast();
                        let mut sum = _mm256_loadu_si256(place);
                        for (byte, l, h) in [(a, l0, h0), (b, l1, h1)] {
                            let high = _mm256_and_si256(_mm256_srli_epi64::<4>(byte), low);
                            sum = _mm256_xor_si256(sum, _mm256_shuffle_epi8(l, _mm256_and_si256(byte, low)));
                            sum = _mm256_xor_si256(sum, _mm256_shuffle_epi8(h, high));
                        }
                        _mm256_storeu_si256(place, sum);
                    }
                }
            }
        }
    }

    /// A constant's products with the low and with the high half of a byte, in both lanes.
    #[target_feature(enable = "avx2")]
    fn tables(c: u8) -> [__m256i; 2] {
        let table = &NIBBLES[usize::from(c)];
        [0, 16].map(|half| {
            // SAFETY: the table has 32 bytes; 16 are read from its start or its middle.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().add(half).cast()) })
        })
    }
}
