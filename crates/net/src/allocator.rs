//! The allocator of the whole program: mimalloc, asked in the way that costs least.
//!
//! A worker allocates and frees on its own thread; mimalloc does that in fewer instructions than the
//! system's allocator (a tenth of all user time with HTTP/2, whose library allocates for each stream).
//! Asked for memory of a given alignment, it takes a slow way for anything over a kilobyte, also where
//! every block has that alignment anyhow; so it is only asked so where more is needed.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// Every block of at least this size is aligned to it (mimalloc's `MI_MAX_ALIGN_SIZE`), a smaller one to
/// any power of two up to its size.
const NATURAL: usize = 16;

/// mimalloc.
#[derive(Debug, Default, Clone, Copy)]
pub struct Allocator;

/// Any block of its size has the alignment that `layout` asks for.
#[inline]
fn is_natural(layout: &Layout) -> bool {
    layout.align() <= NATURAL && layout.align() <= layout.size()
}

// SAFETY: mimalloc's functions are an allocator: what they give is unused memory of at least the size
// asked for, or null, and stays where it is until it is freed or reallocated; they may be called by
// any thread and do not unwind. Alignment is as `layout` asks: asked for, or had by every block of the
// size.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and any power of two may be asked for.
        unsafe {
            match is_natural(&layout) {
                true => mi_malloc(layout.size()).cast(),
                false => mi_malloc_aligned(layout.size(), layout.align()).cast(),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and any power of two may be asked for.
        unsafe {
            match is_natural(&layout) {
                true => mi_zalloc(layout.size()).cast(),
                false => mi_zalloc_aligned(layout.size(), layout.align()).cast(),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller had it from here.
        unsafe { mi_free(block.cast::<c_void>()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller had it from here; it may have become smaller than its alignment.
        unsafe {
            match is_natural(&layout) && layout.align() <= size {
                true => mi_realloc(block.cast(), size).cast(),
                false => mi_realloc_aligned(block.cast(), size, layout.align()).cast(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code)]

    use super::*;

    /// mimalloc aligns blocks as it is relied on.
    #[test]
    fn every_block_has_the_alignment_asked_for() {
        for size in (1..5000).chain([1 << 16, (1 << 20) + 3]) {
            for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
                let Ok(layout) = Layout::from_size_align(size, align) else { continue };
                // SAFETY: what is allocated is freed once, with the layout it has then.
                unsafe {
                    let block = Allocator.alloc(layout);
                    assert!(!block.is_null() && block.addr() % align == 0, "{layout:?}");
                    block.write_bytes(1, size);
                    let block = Allocator.realloc(block, layout, size * 2 + 1);
                    assert!(!block.is_null() && block.addr() % align == 0, "{layout:?}, longer");
                    assert_eq!(*block.add(size - 1), 1);
                    let longer = Layout::from_size_align_unchecked(size * 2 + 1, align);
                    let block = Allocator.realloc(block, longer, 1);
                    assert!(!block.is_null() && block.addr() % align == 0, "{layout:?}, short");
                    Allocator.dealloc(block, Layout::from_size_align_unchecked(1, align));
                    let block = Allocator.alloc_zeroed(layout);
                    assert!(!block.is_null() && block.addr() % align == 0, "{layout:?}, zeroed");
                    assert_eq!((*block, *block.add(size - 1)), (0, 0));
                    Allocator.dealloc(block, layout);
                }
            }
        }
    }
}
