//! Boxes that are filled where they are.

/// What `make` gives, in a box. `Box::new` has its value first and a box for it second, and, because to get
/// the box may fail, makes the value on the stack and copies it: some kilobytes for the future of a request.
#[inline]
pub(crate) fn boxed<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}
