//! scratch
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use std::{sync::Arc, time::Instant};
use motorbrain::{Settings, engine::*, model::{Model, ModelOptions}};
use motorbrain_actors::{engine::*, tokens::TokenId};
fn main() {
    let dir = std::env::args().nth(1).unwrap_or(".motorbrain/models/smollm2-135m".into());
    let threads: usize = std::env::args().nth(2).map_or(2, |x| x.parse().unwrap());
    let plain = std::env::args().nth(3).is_some();
    let library = motorbrain::find_library(&Settings::default()).unwrap();
    let runtime = Runtime::open(&library.path).unwrap();
    let model = Arc::new(Model::open(&ModelOptions { dir: dir.into(), file: None, preset: None }).unwrap());
    let vocab = model.contract.vocab as u32;
    let loader = OnnxLoader::new(runtime, model, EngineOptions { session: SessionOptions { threads, spinning: true }, window: WindowOptions { size: Some(2048), ..Default::default() } }).unwrap();
    let t = Instant::now();
    let mut e = if plain { loader.load_plain().unwrap() } else { EngineLoader::load(&loader).unwrap() };
    println!("load {:.2}", t.elapsed().as_secs_f64());
    let toks = |n: usize| (0..n as u32).map(|i| TokenId((i * 7919 + 13) % (vocab - 500) + 10)).collect::<Vec<_>>();
    let next = Want::Next { sampling: Sampling::GREEDY, seed: 0, number: 0, top: 0 };
    let only: Vec<usize> = std::env::var("CTX").map(|x| x.split(",").map(|y| y.parse().unwrap()).collect()).unwrap_or(vec![64, 512, 1536]);
    let bs: Vec<usize> = std::env::var("BS").map(|x| x.split(",").map(|y| y.parse().unwrap()).collect()).unwrap_or(vec![1, 4, 8, 16]);
    for ctx in only {
        for b in bs.clone() {
            if ctx == 1536 && b > 8 { continue }
            let slots: Vec<_> = (0..b).map(|_| { let s = e.open().unwrap(); let text = toks(ctx); for c in text.chunks(256) { e.run(&[Row { slot: s, tokens: c, want: Want::Nothing }]).unwrap(); } s }).collect();
            let mut ts = vec![];
            for _ in 0..std::env::var("IT").map_or(14, |x| x.parse().unwrap()) { let rows: Vec<_> = slots.iter().map(|s| Row { slot: *s, tokens: &[], want: next }).collect(); let t = Instant::now(); e.run(&rows).unwrap(); ts.push(t.elapsed().as_secs_f64()); }
            ts.sort_by(f64::total_cmp); println!("ctx {ctx} b {b}: {:.2} ms (min {:.2}) {:.1} tok/s", ts[7]*1e3, ts[0]*1e3, b as f64/ts[3]);
            for s in slots { e.close(s); }
        }
    }
    for n in std::env::var("PRE").map(|x| x.split(",").map(|y| y.parse().unwrap()).collect()).unwrap_or(vec![128usize, 512, 2000]) {
        let mut best = f64::MAX;
        for _ in 0..3 { let s = e.open().unwrap(); let text = toks(n); let t = Instant::now(); for c in text.chunks(512) { e.run(&[Row { slot: s, tokens: c, want: Want::Nothing }]).unwrap(); } e.run(&[Row { slot: s, tokens: &[], want: next }]).unwrap(); best = best.min(t.elapsed().as_secs_f64()); e.close(s); }
        println!("prefill {n}: {:.0} ms {:.0} tok/s", best*1e3, n as f64/best);
    }
}
