//! Boxes that are filled where they are.

use std::pin::Pin;

/// What `make` gives, in a box. `Box::new` has its value first and a box for it second, and, because to get
/// the box may fail, makes the value on the stack and copies it: some kilobytes for the future of a request.
#[inline]
pub(crate) fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}

/// A future that few requests need, in a box and unknown to who waits for it: as a part of that it would
/// take its kilobytes on the stack at every step of every request.
#[inline(never)]
pub(crate) fn apart<'f, F: Future + 'f>(
    make: impl FnOnce() -> F,
) -> Pin<Box<dyn Future<Output = F::Output> + 'f>> {
    Box::into_pin(boxed(make))
}
