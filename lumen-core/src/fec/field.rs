//! GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11D), with tables made at compile time.

/// `EXP[i]` is 2^i; twice the period, so that a sum of two logarithms needs no reduction.
const EXP: [u8; 510] = {
    let mut exp = [0u8; 510];
    let mut value = 1u16;
    let mut i = 0;
    while i < 255 {
        exp[i] = value as u8;
        exp[i + 255] = value as u8;
        value <<= 1;
        if value & 0x100 != 0 {
            value ^= 0x11d;
        }
        i += 1;
    }
    exp
};

/// Logarithm to the base 2; that of zero is never asked for.
const LOG: [u8; 256] = {
    let mut log = [0u8; 256];
    let mut i = 0;
    while i < 255 {
        log[EXP[i] as usize] = i as u8;
        i += 1;
    }
    log
};

pub(super) const fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { EXP[LOG[a as usize] as usize + LOG[b as usize] as usize] }
}

/// The inverse of `a`, which must not be zero.
pub(super) const fn inv(a: u8) -> u8 {
    debug_assert!(a != 0);
    EXP[255 - LOG[a as usize] as usize]
}

/// Multiplication by a constant, split over a byte's halves: `NIBBLES[c][n]` is `c * n`, `NIBBLES[c][16 + n]` is
/// `c * (n << 4)`.
pub(super) static NIBBLES: [[u8; 32]; 256] = {
    let mut table = [[0u8; 32]; 256];
    let mut c = 0;
    while c < 256 {
        let mut n = 0;
        while n < 16 {
            table[c][n] = mul(c as u8, n as u8);
            table[c][16 + n] = mul(c as u8, (n << 4) as u8);
            n += 1;
        }
        c += 1;
    }
    table
};

/// Multiplication by a constant as the 8x8 bit matrix that GF2P8AFFINEQB takes: byte `7 - i` holds the row that gives
/// bit `i` of the product, whose bit `j` is bit `i` of `c * 2^j`.
pub(super) static MATRICES: [u64; 256] = {
    let mut matrices = [0u64; 256];
    let mut c = 0;
    while c < 256 {
        let mut i = 0;
        while i < 8 {
            let mut row = 0u64;
            let mut j = 0;
            while j < 8 {
                row |= ((mul(c as u8, 1 << j) >> i) as u64 & 1) << j;
                j += 1;
            }
            matrices[c] |= row << (8 * (7 - i));
            i += 1;
        }
        c += 1;
    }
    matrices
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Schoolbook multiplication.
    fn slow(a: u8, b: u8) -> u8 {
        let mut product = 0u16;
        for bit in 0..8 {
            product ^= (u16::from(a) << bit) * u16::from(b >> bit & 1);
        }
        for bit in (8..15).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11d << (bit - 8);
            }
        }
        product as u8
    }

    #[test]
    fn tables_agree_with_schoolbook_multiplication() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let product = slow(a, b);
                assert_eq!(mul(a, b), product);
                let [low, high] = [b & 15, 16 + (b >> 4)].map(|place| NIBBLES[usize::from(a)][usize::from(place)]);
                assert_eq!(low ^ high, product);
                let bits = (0..8).map(|i| {
                    let row = (MATRICES[usize::from(a)] >> (8 * (7 - i))) as u8;
                    ((row & b).count_ones() as u8 & 1) << i
                });
                assert_eq!(bits.sum::<u8>(), product);
            }
            assert!(a == 0 || mul(a, inv(a)) == 1);
        }
    }
}
