//! Slides and growing: moving the rows of a cache, always into a copy, so that a run that fails later leaves the slot
//! as it was.

use motorbrain_actors::engine::{Slides, Window};
use motorbrain_kernels::attention::{Kept, Turns};

use super::{backend::Backend, planned::Planned, slot::Slot};

/// See the module's description.
pub(super) struct Slider<'a> {
    /// What a slide does to the keys of each layer; `None` where no window slides.
    pub(super) turns: Option<Turns<'a>>,
    pub(super) window: &'a Window,
}

impl Slider<'_> {
    /// The cache to run on where the slot's own will not do: it must slide, be cut or grow first.
    pub(super) fn make_room<B: Backend>(
        &self,
        backend: &B,
        slot: &mut Slot<B::Kv>,
        planned: &Planned,
    ) -> ort::Result<Option<B::Kv>> {
        if planned.plan.slide {
            let first = self.window.kept_first(slot.pinned);
            self.slide(backend, &slot.kv, slot.kv_len, first, planned.fed.tokens.len()).map(Some)
        } else {
            backend.make_room(&mut slot.kv, &planned.fed.feed())
        }
    }

    /// A copy of the cache's first `kv_len` rows after one slide, of which the `first` stay, ready for `new` more.
    pub(super) fn slide<B: Backend>(
        &self,
        backend: &B,
        kv: &B::Kv,
        kv_len: usize,
        first: usize,
        new: usize,
    ) -> ort::Result<B::Kv> {
        let Window { size, slide, slides, .. } = *self.window;
        assert!(
            slides == Slides::Shift && self.turns.is_some(),
            "a slide of {kv_len} tokens in a window that does not shift"
        );
        assert!(kv_len == size, "a slide of {kv_len} cached tokens in a window of {size}");
        let first_kept = Kept { rows: 0..first, turns: None };
        let rest_kept = Kept { rows: first + slide..kv_len, turns: self.turns };
        let copy = backend.copy(kv, &[first_kept, rest_kept], new)?;
        let (room, left) = (backend.capacity(&copy), kv_len - slide);
        assert!(room >= left, "the copy has room for {room} rows, {left} are left after a slide");
        Ok(copy)
    }
}
