//! Deaths that are meant: a rehearsal's panic need not be shown with its backtrace. Any other is.

use std::panic;

use motorbrain_actors::embedder::CRASH;

/// From now on nothing is printed of an actor that is made to crash.
pub(crate) fn expect() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(CRASH) {
            usual(panic);
        }
    }));
}
