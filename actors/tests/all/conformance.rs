//! The fake engine obeys the laws that real engines are held to.

use motorbrain_actors::engine::{Engine, EngineInfo, Slides, Window};
use motorbrain_testing::{
    FakeControl, FakeEngine,
    conformance::{self, Tolerance},
    fake_info,
};

fn check(window: Window) {
    let info = EngineInfo { window, ..fake_info() };
    let make_engine = || Box::new(FakeEngine::new(info.clone(), FakeControl::default())) as Box<dyn Engine>;
    conformance::check(make_engine, Tolerance::EXACT);
}

#[test]
fn the_fake_engine_conforms() {
    check(fake_info().window);
}

#[test]
fn so_it_does_without_sinks() {
    check(Window { sinks: 0, ..fake_info().window });
}

#[test]
fn so_it_does_where_every_token_slides() {
    check(Window { slide: 1, ..fake_info().window });
}

#[test]
fn so_it_does_where_its_owner_slides() {
    check(Window { slides: Slides::Recompute, ..fake_info().window });
}

#[test]
fn so_it_does_where_only_the_sinks_stay() {
    check(Window { size: 24, sinks: 8, slide: 16, slides: Slides::Shift });
    check(Window { size: 16, sinks: 0, slide: 16, slides: Slides::Shift });
}

#[test]
fn so_it_does_without_sliding() {
    check(Window { slides: Slides::Never, ..fake_info().window });
}
