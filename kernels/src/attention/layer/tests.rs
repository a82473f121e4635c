//! What a token gets, however its run is cut.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{num::NonZeroUsize, sync::Arc};

use super::*;
use crate::{
    ElementType,
    attention::{KvStore, KvTypes, PagedKv, attend::SECTION},
};

const SHAPE: Shape = Shape { layer: 0, heads: 4, kv_heads: 2, head_dim: 8, scale: 0.5, softcap: None, window: None };
/// Queries, keys and values of a token.
const WIDTH: usize = (4 + 2 + 2) * 8;

/// New tokens of one conversation behind those that are there.
struct New<'a> {
    kv: &'a mut Arc<PagedKv>,
    past: usize,
    packed: &'a [f32],
}

fn kv() -> Arc<PagedKv> {
    let types = KvTypes { key: ElementType::F32, value: ElementType::F32 };
    Arc::new(PagedKv::new(&KvStore::new(vec![types], SHAPE.kv_heads, SHAPE.head_dim), 0))
}

/// What each row gets, all in one run; and how many sections it was cut into.
fn run(shape: Shape, mut news: Vec<New<'_>>) -> (Vec<Vec<f32>>, usize) {
    let row = |New { kv, past, packed }: &mut New<'_>| {
        let tokens = packed.len() / WIDTH;
        Arc::get_mut(kv).unwrap().make_room(*past, tokens).unwrap();
        BatchRow { kv: Arc::clone(kv), past: *past, cached: *past, position: *past, tokens }
    };
    let rows: Vec<_> = news.iter_mut().map(row).collect();
    let packed: Vec<f32> = news.iter().flat_map(|new| new.packed).copied().collect();
    let tokens = packed.len() / WIDTH;
    let part = |first| Heads { data: &packed, width: WIDTH, first, head_dim: SHAPE.head_dim };
    let layer = Layer { shape, rows: &rows, queries: part(0), keys: part(32), values: part(48), rotary: None };
    layer.check(tokens).unwrap();
    let mut plan = Plan::default();
    layer.plan(&mut plan);
    let parts: Vec<Mutex<Found>> = (0..plan.parts()).map(|_| Mutex::default()).collect();
    let mut output = vec![0.0; tokens * SHAPE.heads * SHAPE.head_dim];
    let mut pieces = Vec::new();
    layer.cut(&mut output, &mut pieces);
    let steps = Steps { layer: &layer, _hand: InHand::take(&rows), plan: &plan, parts: &parts, pieces: &pieces };
    (0..steps.heads()).for_each(|index| steps.store(index));
    // Whatever the order.
    (0..plan.tasks.len()).rev().for_each(|index| steps.mix(index));
    (0..plan.sums.len()).for_each(|index| steps.sum(index));
    drop(steps);
    drop(pieces);
    let mut rest = &output[..];
    let mut row = |row: &BatchRow| {
        let (mine, others) = rest.split_at(row.tokens * SHAPE.heads * SHAPE.head_dim);
        rest = others;
        mine.to_vec()
    };
    let given = rows.iter().map(&mut row).collect();
    drop(rows);
    for New { kv, past, packed } in &mut news {
        Arc::get_mut(kv).unwrap().settle(*past + packed.len() / WIDTH);
    }
    (given, plan.parts())
}

#[test]
fn what_a_token_gets_depends_neither_on_cuts_nor_on_sections_nor_on_other_rows() {
    cut_and_whole(SHAPE);
    cut_and_whole(Shape { window: NonZeroUsize::new(SECTION + 500), ..SHAPE });
    cut_and_whole(Shape { softcap: Some(2.0), ..SHAPE });
}

fn cut_and_whole(shape: Shape) {
    let number = |i: usize| ((i * 37 + i / 64 * 11) % 101) as f32 / 25.0 - 2.0;
    let tokens = 2 * SECTION + 300;
    let texts: Vec<Vec<f32>> = (0..2).map(|text| (0..tokens * WIDTH).map(|i| number(i + 5 * text)).collect()).collect();
    let whole: Vec<Vec<f32>> = texts
        .iter()
        .map(|packed| {
            let (mut rows, parts) = run(shape, vec![New { kv: &mut kv(), past: 0, packed }]);
            assert_eq!(parts, 0, "a long chunk has tasks enough");
            rows.remove(0)
        })
        .collect();
    let short = &texts[0][..9 * WIDTH];
    for cuts in [&[1, 30, 7, 100][..], &[24, 300]] {
        let mut caches = [kv(), kv()];
        let (mut past, mut found, mut sections) = (0, [Vec::<f32>::new(), Vec::new()], 0);
        for cut in cuts.iter().cycle() {
            let end = (past + cut).min(tokens);
            let mut other = kv();
            let news = caches.iter_mut().zip(&texts);
            let mut news: Vec<_> =
                news.map(|(kv, text)| New { kv, past, packed: &text[past * WIDTH..end * WIDTH] }).collect();
            // A short one in between.
            news.insert(1, New { kv: &mut other, past: 0, packed: short });
            let (rows, parts) = run(shape, news);
            assert!(rows[1] == whole[0][..rows[1].len()]);
            found[0].extend(&rows[0]);
            found[1].extend(&rows[2]);
            sections = sections.max(parts);
            past = end;
            if past == tokens {
                break;
            }
        }
        // Three of each row's, of two KV heads; two where a window hides the first.
        assert!(sections >= if shape.window.is_some() { 8 } else { 12 }, "{shape:?} {cuts:?}: {sections}");
        assert!(found[..] == whole, "{cuts:?}");
    }
}
