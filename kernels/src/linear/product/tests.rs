//! Every form of weights on every kind of vectors that this machine has, beside plain sums in f64.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::{
    super::{packed::pack, shape::LinearShape, shape::ZeroPoints},
    *,
};

/// A layer of any form with its weights as MatMulNBits has them, and the plain matrix they stand for.
fn layer(
    inputs: usize,
    outputs: usize,
    bits: u32,
    block: usize,
    zeros: ZeroPoints,
    precision: Precision,
) -> (Packed, Vec<Vec<f64>>) {
    let blocks = inputs / block;
    let per_byte = 8 / bits as usize;
    let codes: Vec<u8> = (0..outputs * inputs / per_byte).map(|i| (i * 89 + i / 7) as u8).collect();
    // Those of every other form are numbers of f16.
    let exact = |x: f32| if block == 32 { half::f16::from_f32(x).to_f32() } else { x };
    let scales: Vec<f32> = (0..outputs * blocks).map(|i| exact(0.01 + (i % 13) as f32 * 0.003)).collect();
    let zero_floats: Vec<f32> = (0..outputs * blocks).map(|i| 7.25 + (i % 5) as f32).collect();
    let zero_row = (blocks * bits as usize).div_ceil(8);
    let zero_codes: Vec<u8> = (0..outputs * zero_row).map(|i| (i * 53 + 100) as u8).collect();
    let bytes = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let zero_bytes = match zeros {
        ZeroPoints::Middle => Vec::new(),
        ZeroPoints::Codes => zero_codes.clone(),
        ZeroPoints::Floats => bytes(&zero_floats),
    };
    let shape = LinearShape { inputs, outputs, bits, block, zero_points: zeros };
    let packed = pack(&shape, &codes, &bytes(&scales), &zero_bytes, precision).unwrap();
    let code = |row: &[u8], i: usize| if bits == 4 { (row[i / 2] >> (4 * (i % 2))) & 15 } else { row[i] };
    let weight = |output: usize, input: usize| {
        let at = output * blocks + input / block;
        let zero = match zeros {
            ZeroPoints::Middle => f64::from(1u32 << (bits - 1)),
            ZeroPoints::Codes => f64::from(code(&zero_codes[output * zero_row..], input / block)),
            ZeroPoints::Floats => f64::from(zero_floats[at]),
        };
        (f64::from(code(&codes[output * inputs / per_byte..], input)) - zero) * f64::from(scales[at])
    };
    let matrix = (0..outputs).map(|o| (0..inputs).map(|i| weight(o, i)).collect()).collect();
    (packed, matrix)
}

/// The products of some rows, `[rows, outputs]`.
fn product(vectors: Vectors, weights: &Packed, rows: &[f32], count: usize) -> Vec<f32> {
    let (mut rounded, mut workspace) = (Rounded::default(), Workspace::default());
    rounded.resize(count, weights.inputs, weights.block, weights.precision);
    let Rounded { packed, factors } = &mut rounded;
    let inputs = Inputs::of(weights.inputs, weights.inputs, rows, None).unwrap();
    vectors.run(Round(weights, inputs, packed, factors));
    let (panels, rows) = (0..weights.panels(), Rows { packed, factors, count });
    // What was there before is nobody's.
    let mut product = vec![f32::NAN; count * weights.outputs];
    let to = &mut Columns::all(&mut product, weights.outputs);
    multiply_panels(vectors, weights, panels, rows, &mut workspace, to);
    product
}

#[test]
fn every_form_gives_the_plain_product() {
    for (bits, block, zeros, precision) in [
        (8, 32, ZeroPoints::Middle, Precision::Words),
        (8, 16, ZeroPoints::Codes, Precision::Words),
        (8, 512, ZeroPoints::Codes, Precision::Words),
        (4, 32, ZeroPoints::Middle, Precision::Words),
        (4, 64, ZeroPoints::Codes, Precision::Words),
        (4, 32, ZeroPoints::Floats, Precision::Words),
        (4, 256, ZeroPoints::Middle, Precision::Words),
        (4, 16, ZeroPoints::Middle, Precision::Bytes),
        (4, 32, ZeroPoints::Floats, Precision::Bytes),
        (4, 512, ZeroPoints::Codes, Precision::Bytes),
    ] {
        let (inputs, outputs) = (512, 70);
        let (packed, matrix) = layer(inputs, outputs, bits, block, zeros, precision);
        let all: Vec<f32> = (0..7 * inputs).map(|i| ((i * 31) % 17) as f32 / 8.0 - 1.0).collect();
        let mut same: Option<Vec<f32>> = None;
        for vectors in Vectors::all() {
            let alone: Vec<f32> = all.chunks(inputs).flat_map(|x| product(vectors, &packed, x, 1)).collect();
            for (sums, x) in alone.chunks(outputs).zip(all.chunks(inputs)) {
                for (output, weights) in matrix.iter().enumerate() {
                    let expected: f64 = weights.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                    let size: f64 = weights.iter().zip(x).map(|(w, x)| (w * f64::from(*x)).abs()).sum();
                    let found = f64::from(sums[output]);
                    // Activations lose half a step of a block's largest; the rest are some f32 sums.
                    let step = if precision == Precision::Words { 2e-5 } else { 5e-3 };
                    assert!((found - expected).abs() <= step * size, "{bits} {block}: {found} {expected}");
                }
            }
            for count in [2, 3, 4, 7] {
                let found = product(vectors, &packed, &all[..count * inputs], count);
                assert_eq!(found, alone[..count * outputs], "a row's result depends on the rows beside it");
            }
            // Without vectors a product and its sum are rounded one after the other.
            if !matches!(vectors, Vectors::Scalar) {
                assert_eq!(*same.get_or_insert_with(|| alone.clone()), alone, "a result depends on the machine");
            }
        }
    }
}

#[test]
fn the_largest_numbers_fit_their_sums() {
    let (inputs, outputs) = (512, PANEL);
    let shape = LinearShape { inputs, outputs, bits: 4, block: inputs, zero_points: ZeroPoints::Floats };
    let factors = |x: f32| x.to_le_bytes().repeat(outputs);
    let codes = vec![0xff; outputs * inputs / 2];
    let packed = pack(&shape, &codes, &factors(1.0), &factors(0.0), Precision::Bytes).unwrap();
    for activation in [127.0, -127.0] {
        for vectors in Vectors::all() {
            let found = product(vectors, &packed, &vec![activation; 3 * inputs], 3);
            assert!(found.iter().all(|x| *x == activation * 15.0 * inputs as f32), "{activation}: {found:?}");
        }
    }
}

/// Does every task, the last one first, on as many threads.
struct Backwards;

impl Threads for Backwards {
    type Error = std::convert::Infallible;

    fn share(&self, count: usize, task: &(dyn Fn(usize) + Sync + Send)) -> Result<(), Self::Error> {
        std::thread::scope(|scope| (0..count).rev().for_each(|index| drop(scope.spawn(move || task(index)))));
        Ok(())
    }
}

#[test]
fn many_rows_give_what_each_gives_alone() {
    let (inputs, outputs) = (64, 70);
    for (bits, precision) in [(4, Precision::Bytes), (4, Precision::Words), (8, Precision::Words)] {
        let (packed, _) = layer(inputs, outputs, bits, 32, ZeroPoints::Codes, precision);
        // More than one chunk of rows, the last one whole and not.
        for count in [ROWS_MAX + 6, 2 * ROWS_MAX, 2 * ROWS_MAX + 2] {
            let rows: Vec<f32> = (0..count * inputs).map(|i| ((i * 7919) % 1009) as f32 / 100.0 - 5.0).collect();
            let mut together = vec![f32::NAN; count * outputs];
            let inputs_of = |rows| Inputs::of(inputs, inputs, rows, None).unwrap();
            multiply(&packed, inputs_of(&rows), &mut together, &Backwards).unwrap();
            for (row, found) in rows.chunks(inputs).zip(together.chunks(outputs)) {
                assert_eq!(found, product(Vectors::best(), &packed, row, 1), "{count} rows");
            }
        }
    }
}

/// Does every task, and the first one again.
struct Twice;

impl Threads for Twice {
    type Error = std::convert::Infallible;

    fn share(&self, count: usize, task: &(dyn Fn(usize) + Sync + Send)) -> Result<(), Self::Error> {
        (0..count).chain([0]).for_each(task);
        Ok(())
    }
}

#[test]
fn no_two_threads_are_given_the_same_columns() {
    let (packed, _) = layer(64, 70, 4, 32, ZeroPoints::Middle, Precision::Words);
    let rows = Inputs::of(64, 64, &[1.0; 64], None).unwrap();
    let mut output = [0.0; 70];
    let twice = std::panic::AssertUnwindSafe(|| multiply(&packed, rows, &mut output, &Twice).is_ok());
    assert!(std::panic::catch_unwind(twice).is_err());
}
