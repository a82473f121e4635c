//! `cargo xtask setup|demo|test|bench`: provisions what cargo cannot, and runs what CI runs.
fn main() {}
