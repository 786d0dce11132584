//! Copies of short texts into room that was made before.
//!
//! Why it exists: what is kept of every request is made of some dozen short texts, and to call `memcpy` for
//! one costs more than to move its bytes. What is left of the room goes from hand to hand by value, so that
//! no text waits for the length of the one before to be stored.
//!
//! What always holds: a text for which there is no room is left out whole.

/// Copies `bytes` to the front of `room`; the room behind them.
#[inline]
pub(crate) fn copy<'r>(room: &'r mut [u8], bytes: &[u8]) -> &'r mut [u8] {
    if room.len() < bytes.len() {
        return room;
    }
    let (place, room) = room.split_at_mut(bytes.len());
    match bytes.len() {
        33.. => place.copy_from_slice(bytes),
        16.. => move_ends::<16>(place, bytes),
        8.. => move_ends::<8>(place, bytes),
        4.. => move_ends::<4>(place, bytes),
        _ => place.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte),
    }
    room
}

/// Copies the first `len` of these bytes; the room behind those. All are moved, because a number that is
/// known makes it a few moves, and what comes next is written over the others.
#[inline]
pub(crate) fn copy_first<'r, const N: usize>(
    room: &'r mut [u8],
    bytes: &[u8; N],
    len: usize,
) -> &'r mut [u8] {
    match room.first_chunk_mut::<N>() {
        Some(place) if len <= N => {
            *place = *bytes;
            room.get_mut(len..).unwrap_or_default()
        }
        _ => room,
    }
}

/// Copies `N` to twice as many bytes: the first and the last `N` of them.
#[inline]
fn move_ends<const N: usize>(place: &mut [u8], bytes: &[u8]) {
    if let (Some(place), Some(first)) = (place.first_chunk_mut::<N>(), bytes.first_chunk()) {
        *place = *first;
    }
    if let (Some(place), Some(last)) = (place.last_chunk_mut::<N>(), bytes.last_chunk()) {
        *place = *last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_copied_whole_or_not_at_all() {
        let text: Vec<u8> = (1..=100).collect();
        for len in 0..=text.len() {
            for more in 0..3 {
                let mut room = vec![0; len + more];
                assert_eq!(copy(&mut room, &text[..len]).len(), more);
                assert_eq!(room[..len], text[..len]);
                assert!(room[len..].iter().all(|byte| *byte == 0));
            }
            let mut room = vec![0; len];
            let longer = text.iter().copied().chain([0]).take(len + 1).collect::<Vec<_>>();
            assert_eq!(copy(&mut room, &longer).len(), len);
            assert!(room.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn of_the_first_bytes_so_many_are_meant() {
        let mut room = [0; 6];
        let rest = copy_first(&mut room, b"abcd", 2);
        assert_eq!(rest.len(), 4);
        assert_eq!(copy_first(rest, b"efgh", 4).len(), 0);
        assert_eq!(room, *b"abefgh");
        assert_eq!(copy_first(&mut room[..3], b"abcd", 2).len(), 3);
        assert_eq!(copy_first(&mut room, b"abcd", 5).len(), 6);
    }
}
