//! The brain's own interface: what the pipe serves, as paths. Bodies are the objects of the pipe without `id` and `op`,
//! answers what the pipe has in `ok`.

pub(crate) mod chaos;
pub(crate) mod conversations;
pub(crate) mod events;
pub(crate) mod look;
mod said;
pub(crate) mod stepped;
pub(crate) mod template;
pub(crate) mod texts;
mod work;
