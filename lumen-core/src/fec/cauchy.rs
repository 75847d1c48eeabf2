//! Scheme 1: Reed-Solomon over GF(2^8), parity row `j` being `P[j][i] = 1 / ((m + i) xor j)`.
//!
//! The matrix is a Cauchy matrix with row elements `x_j = j` and column elements `y_i = m + i`, all different because
//! `k + m <= 255`. So is each of its square parts, and the inverse of a Cauchy matrix is known in closed form: decoding
//! `e` lost shards needs e² field operations for the matrix, not e³.

use super::field::{inv, mul};
use super::kernels::Kernel;
use super::{Present, Shape, Shards, Unrecoverable};

pub(super) struct Cauchy {
    kernel: Kernel,
    coefficients: Vec<u8>,
    scratch: Vec<u64>,
    sums: Vec<u8>,
    starts: Vec<usize>,
}

/// `P[j][i]`.
fn element(m: usize, j: usize, i: usize) -> u8 {
    inv(((m + i) ^ j) as u8)
}

impl Cauchy {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel, coefficients: Vec::new(), scratch: Vec::new(), sums: Vec::new(), starts: Vec::new() }
    }

    pub(super) fn encode(&mut self, shape: Shape, data: Shards<'_>, parity: &mut [u8]) {
        self.coefficients.clear();
        for j in 0..shape.m {
            self.coefficients.extend((0..shape.k).map(|i| element(shape.m, j, i)));
        }
        parity.fill(0);
        self.kernel.combine(&self.coefficients, data, parity, &mut self.scratch);
    }

    pub(super) fn decode(&mut self, shape: Shape, present: &Present<'_>, out: &mut [u8]) -> Result<(), Unrecoverable> {
        let lost = present.missing.len();
        let rows = &present.parity_indices[..lost];
        // What the lost shards contribute to each parity shard: the parity less what the present shards contribute.
        self.sums.clear();
        for position in 0..lost {
            self.sums.extend_from_slice(present.parity.get(position));
        }
        self.coefficients.clear();
        for &j in rows {
            self.coefficients.extend(present.data_indices.iter().map(|&i| element(shape.m, j, i)));
        }
        self.kernel.combine(&self.coefficients, present.data, &mut self.sums, &mut self.scratch);

        self.coefficients.clear();
        invert(shape.m, rows, present.missing, &mut self.coefficients);
        self.starts.clear();
        self.starts.extend((0..lost).map(|row| row * shape.len));
        let sums = Shards::new(&self.sums, &self.starts, shape.len).ok_or(Unrecoverable)?;
        out.fill(0);
        self.kernel.combine(&self.coefficients, sums, out, &mut self.scratch);
        Ok(())
    }
}

/// Appends the inverse of the square matrix of rows `rows` and columns `columns`, a row for each column:
/// `B[b][a] = prod_k (x_a + y_k)(x_k + y_b) / ((x_a + y_b) prod_{k != a} (x_a + x_k) prod_{k != b} (y_b + y_k))`.
fn invert(m: usize, rows: &[usize], columns: &[usize], out: &mut Vec<u8>) {
    let x = |a: usize| rows[a] as u8;
    let y = |b: usize| (m + columns[b]) as u8;
    let count = rows.len();
    // The factors that depend on `a` alone and on `b` alone.
    let mut by_row = [0u8; super::MAX_CAUCHY_SHARDS];
    let mut by_column = [0u8; super::MAX_CAUCHY_SHARDS];
    for this in 0..count {
        let (mut above, mut below) = ((1, 1), (1, 1));
        for k in 0..count {
            above = (mul(above.0, x(this) ^ y(k)), mul(above.1, x(k) ^ y(this)));
            if k != this {
                below = (mul(below.0, x(this) ^ x(k)), mul(below.1, y(this) ^ y(k)));
            }
        }
        by_row[this] = mul(above.0, inv(below.0));
        by_column[this] = mul(above.1, inv(below.1));
    }
    for (b, &of_column) in by_column[..count].iter().enumerate() {
        let row = by_row[..count].iter().enumerate();
        out.extend(row.map(|(a, &of_row)| mul(mul(of_row, of_column), inv(x(a) ^ y(b)))));
    }
}
