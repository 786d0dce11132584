//! Asking the processor for memory before it is needed.
//!
//! Why it exists: what is kept of each request goes to memory that thousands of other requests have not
//! touched. What is written there waits within the processor until the memory has come, and soon everything
//! behind it waits too. Where the next place is known one request ahead, it can be asked for in time.
//!
//! What always holds: nothing changes but how long things take.

use std::ptr;

/// Bytes that come together; with longer lines some are asked for twice.
const LINE: usize = 64;

/// Asks for the memory of `value`, without waiting for it.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let start = ptr::from_ref(value).cast::<i8>();
    let len = size_of_val(value);
    // Not `step_by`, which asks at each step whether it is the first.
    let mut at = 0;
    while at < len {
        line(start.wrapping_add(at));
        at += LINE;
    }
    if let Some(last) = len.checked_sub(1) {
        line(start.wrapping_add(last));
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
fn line(at: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint. Whatever the address, nothing is read and nothing fails.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at) }
}

/// Elsewhere the compiler has no such hint yet.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn line(_at: *const i8) {}
