use proptest::prelude::*;

use super::*;

/// Reproducible bytes.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

fn starts(count: usize, len: usize) -> Vec<usize> {
    (0..count).map(|position| position * len).collect()
}

fn encode(kernel: Kernel, shape: Shape, data: &[u8]) -> Vec<u8> {
    let mut parity = vec![0xaa; shape.m * shape.len];
    let starts = starts(shape.k, shape.len);
    Encoder::new(kernel).encode(shape, Shards::new(data, &starts, shape.len).unwrap(), &mut parity);
    parity
}

/// Loses the data shards in `missing` and gives them back from the parity shards in `rows`.
fn recover(
    kernel: Kernel,
    shape: Shape,
    data: &[u8],
    missing: &[usize],
    rows: &[usize],
) -> Result<Vec<u8>, Unrecoverable> {
    let parity = encode(kernel, shape, data);
    let data_indices: Vec<_> = (0..shape.k).filter(|index| !missing.contains(index)).collect();
    let at = |indices: &[usize]| indices.iter().map(|index| index * shape.len).collect::<Vec<_>>();
    let (data_starts, parity_starts) = (at(&data_indices), at(rows));
    let present = Present {
        data_indices: &data_indices,
        data: Shards::new(data, &data_starts, shape.len).unwrap(),
        parity_indices: rows,
        parity: Shards::new(&parity, &parity_starts, shape.len).unwrap(),
        missing,
    };
    let mut out = vec![0x55; missing.len() * shape.len];
    Decoder::new(kernel).decode(shape, &present, &mut out).map(|()| out)
}

#[test]
fn shapes_are_bounded() {
    assert!(Shape::new(Scheme::Cauchy, 200, 55, 1152).is_some());
    assert!(Shape::new(Scheme::Cauchy, 200, 56, 1152).is_none());
    assert!(Shape::new(Scheme::Leopard, MAX_DATA_SHARDS, MAX_PARITY_SHARDS, 1152).is_some());
    assert!(Shape::new(Scheme::Leopard, MAX_DATA_SHARDS + 1, 2, 1152).is_none());
    for (scheme, k, m, len) in [
        (Scheme::None, 4, 2, 2),
        (Scheme::Cauchy, 0, 2, 2),
        (Scheme::Cauchy, 4, 0, 2),
        (Scheme::Cauchy, 4, 2, 3),
        (Scheme::Leopard, 4, 2, 0),
    ] {
        assert!(Shape::new(scheme, k, m, len).is_none());
    }
}

/// Scheme 1's parity by another implementation of the same matrix.
fn oracle(k: usize, m: usize, data: &[u8]) -> Vec<u8> {
    let len = data.len() / k;
    let mut shards: Vec<Vec<u8>> = data.chunks(len).map(<[u8]>::to_vec).collect();
    shards.resize(k + m, vec![0; len]);
    fec_rs::ReedSolomon::new(k, m).unwrap().encode(&mut shards).unwrap();
    shards[k..].concat()
}

/// Scheme 1's parity is byte for byte that of another implementation of the same matrix, by every kernel.
#[test]
fn parity_equals_the_oracle() {
    for (k, m, len) in [
        (1, 2, 2),
        (1, 1, 64),
        (2, 2, 30),
        (5, 3, 66),
        (16, 4, 1152),
        (67, 14, 1152),
        (33, 9, 1000),
        (100, 100, 94),
        (209, 42, 200),
        (253, 2, 130),
        (2, 253, 34),
    ] {
        let shape = Shape::new(Scheme::Cauchy, k, m, len).unwrap();
        let data = noise((k * 1000 + m) as u64, k * len);
        let expected = oracle(k, m, &data);
        for kernel in Kernel::available() {
            assert!(encode(kernel, shape, &data) == expected, "{k}+{m} of {len} by {}", kernel.name());
        }
    }
}

/// Every shape of scheme 1 there is, against the formula of its matrix (that of Moonlight's clients, too) and arithmetic
/// by the book; with another implementation, the shapes that bound all others.
#[test]
fn parity_is_the_formulas_in_every_shape() {
    let mut inverses = [0u8; 256];
    let mut products = vec![[0u8; 256]; 256];
    for a in 0..=255u8 {
        for b in 0..=255u8 {
            let product = (0..8).rev().fold(0u8, |sum, bit| {
                let doubled = sum << 1 ^ if sum & 0x80 == 0 { 0 } else { 0x1d };
                doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
            });
            products[usize::from(a)][usize::from(b)] = product;
            if product == 1 {
                inverses[usize::from(a)] = b;
            }
        }
    }
    let data = noise(11, 254 * 2);
    for m in 1..=254 {
        // Sums for k shards are those for k - 1 and one more.
        let mut sums = vec![[0u8; 2]; m];
        for k in 1..=255 - m {
            for (j, sum) in sums.iter_mut().enumerate() {
                let factor = usize::from(inverses[(m + k - 1) ^ j]);
                for (byte, sum) in sum.iter_mut().enumerate() {
                    *sum ^= products[factor][usize::from(data[(k - 1) * 2 + byte])];
                }
            }
            let shape = Shape::new(Scheme::Cauchy, k, m, 2).unwrap();
            assert!(encode(Kernel::best(), shape, &data[..k * 2]) == sums.as_flattened(), "{k}+{m}");
        }
    }
    for k in 1..=253 {
        for m in [2, 255 - k] {
            assert_equals_the_oracle(k, m, &data[..k * 2]);
        }
    }
}

#[test]
#[ignore = "takes two minutes: the oracle inverts a matrix for each of 32 385 shapes"]
fn parity_equals_the_oracle_in_every_shape() {
    let data = noise(12, 254 * 2);
    for k in 1..=254 {
        (1..=255 - k).for_each(|m| assert_equals_the_oracle(k, m, &data[..k * 2]));
    }
}

fn assert_equals_the_oracle(k: usize, m: usize, data: &[u8]) {
    let shape = Shape::new(Scheme::Cauchy, k, m, 2).unwrap();
    assert!(encode(Kernel::best(), shape, data) == oracle(k, m, data), "{k}+{m}");
}

#[test]
fn decoders_refuse_what_does_not_fit() {
    for scheme in [Scheme::Cauchy, Scheme::Leopard] {
        let shape = Shape::new(scheme, 4, 2, 10).unwrap();
        let data = noise(1, 40);
        let try_with = |missing: &[usize], rows: &[usize]| recover(Kernel::best(), shape, &data, missing, rows);
        assert_eq!(try_with(&[0, 1], &[1]), Err(Unrecoverable), "too few");
        assert_eq!(try_with(&[1, 0], &[0, 1]), Err(Unrecoverable), "not ascending");
        assert_eq!(try_with(&[0], &[1, 1]), Err(Unrecoverable), "twice the same");
        assert_eq!(try_with(&[0, 1], &[0, 1]).unwrap(), data[..20]);
    }
}

fn subset(count: usize, size: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::sample::subsequence((0..count).collect::<Vec<_>>(), size)
}

/// A shape of `scheme`, up to `m` lost shards and as many parity rows, or more.
fn case(scheme: Scheme, most_k: usize, most_m: usize) -> impl Strategy<Value = (Shape, Vec<usize>, Vec<usize>, u64)> {
    (1..=most_k, 1..=most_m, 1usize..100)
        .prop_flat_map(move |(k, m, half)| {
            let shape = Shape::new(scheme, k, m, half * 2).unwrap();
            (Just(shape), 0..=k.min(m), any::<u64>())
        })
        .prop_flat_map(|(shape, lost, seed)| {
            (
                Just(shape),
                subset(shape.k, lost),
                (lost..=shape.m).prop_flat_map(move |rows| subset(shape.m, rows)),
                Just(seed),
            )
        })
}

proptest! {
    #[test]
    fn any_k_shards_give_the_frame_back((shape, missing, rows, seed) in case(Scheme::Cauchy, 127, 128)) {
        let data = noise(seed, shape.k * shape.len);
        let expected: Vec<u8> =
            missing.iter().flat_map(|index| &data[index * shape.len..][..shape.len]).copied().collect();
        for kernel in Kernel::available() {
            prop_assert!(recover(kernel, shape, &data, &missing, &rows).as_deref() == Ok(&expected), "{}", kernel.name());
        }
    }

    #[test]
    fn leopard_gives_the_frame_back_too((shape, missing, rows, seed) in case(Scheme::Leopard, 400, 100)) {
        let data = noise(seed, shape.k * shape.len);
        let expected: Vec<u8> =
            missing.iter().flat_map(|index| &data[index * shape.len..][..shape.len]).copied().collect();
        prop_assert!(recover(Kernel::best(), shape, &data, &missing, &rows).as_deref() == Ok(&expected));
    }

    /// The kernels alone, on rows that are not Cauchy's, with zeros and ones among the coefficients.
    #[test]
    fn kernels_agree(n in 1usize..20, rows in 1usize..20, len in 1usize..200, seed: u64) {
        let (bytes, starts) = (noise(seed, n * len), starts(n, len));
        let mut coefficients = noise(seed ^ 1, n * rows);
        coefficients[0] = (seed & 1) as u8;
        let input = Shards::new(&bytes, &starts, len).unwrap();
        let results: Vec<_> = Kernel::available().map(|kernel| {
            let mut out = noise(seed ^ 2, rows * len);
            kernel.combine(&coefficients, input, &mut out, &mut Vec::new());
            out
        }).collect();
        prop_assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        let mut first = noise(seed ^ 2, rows * len)[0];
        for i in 0..n {
            first ^= field::mul(coefficients[i], bytes[i * len]);
        }
        prop_assert_eq!(results[0][0], first);
    }
}
