use super::*;

fn number(number: &u64) -> u64 {
    *number
}

#[test]
fn an_id_is_read_as_it_is_written() {
    let id = Id { worker: 3, number: 17 };
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "3", "3-", "-17", "a-1", "1-2-3", "+1-2", "1- 2", "99999999999999999999-1"] {
        assert!(text.parse::<Id>().is_err(), "{text}");
    }
}

#[test]
fn places_are_used_again_and_numbers_are_not() {
    let mut slab: Slab<(u64, usize)> = Slab::default();
    let first = slab.add(|number, slot| (number, slot));
    let second = slab.add(|number, slot| (number, slot));
    assert_eq!((*first, *second), ((1, 0), (2, 1)));
    assert!(slab.remove(first.1).is_some());
    assert!(slab.remove(first.1).is_none() && slab.remove(99).is_none());
    assert_eq!(slab.len(), 1);
    let third = slab.add(|number, slot| (number, slot));
    assert_eq!((*third, slab.len()), ((3, 0), 2));
    assert_eq!(slab.iter().count(), 2);
}

#[test]
fn a_part_of_a_list_is_that_with_the_smallest_numbers() {
    let all: Vec<Rc<u64>> = [5, 3, 9, 1, 7].into_iter().map(Rc::new).collect();
    let part = |limit| -> Vec<u64> {
        smallest(all.iter(), limit, number).into_iter().map(|one| **one).collect()
    };
    assert_eq!(part(3), [1, 3, 5]);
    assert_eq!(part(5), [1, 3, 5, 7, 9]);
    assert_eq!(part(100), [1, 3, 5, 7, 9]);
    assert_eq!(part(0), [0u64; 0]);
}
