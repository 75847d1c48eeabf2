//! Scheme 2: Leopard Reed-Solomon over GF(2^16), as the `reed-solomon-simd` crate computes it.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::{Present, Shape, Shards, Unrecoverable};

/// Whether the code exists for this many shards.
pub(super) fn supports(k: usize, m: usize) -> bool {
    ReedSolomonEncoder::supports(k, m)
}

/// Working memory is made at the first frame that needs it and kept.
#[derive(Default)]
pub(super) struct Leopard {
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
}

impl Leopard {
    pub(super) fn encode(&mut self, shape: Shape, data: Shards<'_>, parity: &mut [u8]) {
        let result = self.try_encode(shape, data, parity);
        // `Shape` admits only what the code supports, and the shards are as many and as long as it says.
        debug_assert!(result.is_ok());
    }

    fn try_encode(
        &mut self,
        shape: Shape,
        data: Shards<'_>,
        parity: &mut [u8],
    ) -> Result<(), reed_solomon_simd::Error> {
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(shape.k, shape.m, shape.len)?;
                encoder
            }
            none => none.insert(ReedSolomonEncoder::new(shape.k, shape.m, shape.len)?),
        };
        for position in 0..data.count() {
            encoder.add_original_shard(data.get(position))?;
        }
        let made = encoder.encode()?;
        for (place, shard) in parity.chunks_exact_mut(shape.len).zip(made.recovery_iter()) {
            place.copy_from_slice(shard);
        }
        Ok(())
    }

    pub(super) fn decode(&mut self, shape: Shape, present: &Present<'_>, out: &mut [u8]) -> Result<(), Unrecoverable> {
        self.try_decode(shape, present, out).map_err(|_| Unrecoverable)
    }

    fn try_decode(
        &mut self,
        shape: Shape,
        present: &Present<'_>,
        out: &mut [u8],
    ) -> Result<(), reed_solomon_simd::Error> {
        let decoder = match &mut self.decoder {
            Some(decoder) => {
                decoder.reset(shape.k, shape.m, shape.len)?;
                decoder
            }
            none => none.insert(ReedSolomonDecoder::new(shape.k, shape.m, shape.len)?),
        };
        for (position, &index) in present.data_indices.iter().enumerate() {
            decoder.add_original_shard(index, present.data.get(position))?;
        }
        for (position, &index) in present.parity_indices.iter().enumerate() {
            decoder.add_recovery_shard(index, present.parity.get(position))?;
        }
        let made = decoder.decode()?;
        // Restored shards come in ascending order of their index, as `missing` is.
        for (place, (_, shard)) in out.chunks_exact_mut(shape.len).zip(made.restored_original_iter()) {
            place.copy_from_slice(shard);
        }
        Ok(())
    }
}
