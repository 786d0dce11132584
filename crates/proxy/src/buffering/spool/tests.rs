use super::*;

fn settings(memory: usize, max: u64) -> Buffering {
    Buffering { memory, max, ..Buffering::default() }
}

fn spool(settings: Buffering) -> Spool {
    Spool::new(Arc::new(settings), Pool::new(), Rc::default())
}

/// Bytes of which no two neighbouring stretches are alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn add_all(spool: &mut Spool, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = spool.add(bytes).unwrap();
        assert!(count > 0, "it is full");
        bytes = &bytes[count..];
    }
}

fn read_all(spool: &Spool, reading: &mut Reading) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = [0; 5000];
    loop {
        match spool.read(reading, &mut buf).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}

#[test]
fn a_body_that_is_kept_can_be_read_several_times() {
    let body = pattern(3_000_000);
    let mut spool = spool(settings(100_000, 1 << 30));
    add_all(&mut spool, &body);
    assert_eq!((spool.in_memory, spool.len()), (100_000, 3_000_000));
    let (mut first, mut second) = (Reading::default(), Reading::default());
    let mut beginning = [0; 1234];
    assert_eq!(spool.read(&mut first, &mut beginning).unwrap(), 1234);
    assert!(read_all(&spool, &mut second) == body);
    assert!(read_all(&spool, &mut first) == body[1234..]);
    assert!(read_all(&spool, &mut Reading::default()) == body);
}

#[test]
fn no_file_is_made_for_what_memory_holds() {
    let mut spool = spool(settings(40_000, 1 << 30));
    add_all(&mut spool, &pattern(40_000));
    assert!(spool.file.is_none());
    add_all(&mut spool, b"x");
    assert!(spool.file.is_some());
}

#[test]
fn it_holds_max_bytes_and_not_one_more() {
    for memory in [0, 10, 20_000, 1 << 20] {
        let mut spool = spool(settings(memory, 50_000));
        let body = pattern(50_001);
        let mut held = 0;
        loop {
            match spool.add(&body[held..]).unwrap() {
                0 => break,
                count => held += count,
            }
        }
        assert_eq!((held, spool.len()), (50_000, 50_000));
        assert!(read_all(&spool, &mut Reading::default()) == body[..50_000]);
    }
}

#[test]
fn what_passes_is_forgotten_and_makes_room() {
    let body = pattern(2_000_000);
    for (memory, max) in [(0, 70_000), (1000, 70_000), (40_000, 70_001), (1 << 20, 1 << 30)] {
        let mut spool = spool(settings(memory, max));
        let (mut reading, mut got, mut given) = (Reading::default(), Vec::new(), 0);
        let mut buf = [0; 7001];
        // The taker is now slower, now faster than the giver.
        for turn in 0.. {
            if turn % 3 != 2 && given < body.len() {
                let most = (given + 9001).min(body.len());
                given += spool.add(&body[given..most]).unwrap();
            }
            let reads = if turn % 40 > 30 { 6 } else { 1 };
            for _ in 0..reads {
                let count = spool.read(&mut reading, &mut buf).unwrap();
                got.extend_from_slice(&buf[..count]);
                spool.forget(&mut reading);
            }
            assert!(spool.len() <= max);
            if given == body.len() && spool.is_empty() {
                break;
            }
        }
        assert!(got == body, "memory {memory}, max {max}");
        assert!(!spool.has_more(&reading) && spool.chunks.is_empty());
        if let Some(file) = &spool.file {
            assert!(file.metadata().unwrap().len() <= max);
        }
    }
}

#[test]
fn a_reading_at_the_end_sees_what_is_added_later() {
    let mut spool = spool(settings(BUFFER_SIZE + 2, 1 << 20));
    let mut reading = Reading::default();
    let mut got = Vec::new();
    for len in [0, 1, BUFFER_SIZE - 1, 1, 1, 1, 30_000, 0, 5] {
        assert!(!spool.has_more(&reading));
        add_all(&mut spool, &pattern(len));
        assert_eq!(spool.has_more(&reading), len > 0);
        got.clear();
        got.extend(read_all(&spool, &mut reading));
        assert!(got == pattern(len), "{len}");
    }
}

#[test]
fn a_workers_spools_share_a_bound_on_memory() {
    let (buffers, shared) = (Pool::new(), Rc::new(SpoolMemory::default()));
    let settings = Arc::new(settings(1 << 30, 1 << 30));
    let new = || Spool::new(Arc::clone(&settings), buffers.clone(), Rc::clone(&shared));
    shared.chunks.set(WORKER_MEMORY_MAX / BUFFER_SIZE - 1);
    let (mut first, mut second) = (new(), new());
    let body = pattern(3 * BUFFER_SIZE);
    add_all(&mut first, &body);
    add_all(&mut second, &body);
    assert_eq!((first.in_memory, second.in_memory), (BUFFER_SIZE, 0));
    assert!(read_all(&second, &mut Reading::default()) == body);
    drop(first);
    assert!(!shared.is_used_up());
    drop(second);
    assert_eq!(shared.chunks.get(), WORKER_MEMORY_MAX / BUFFER_SIZE - 1);
}

#[test]
fn a_file_that_cannot_be_made_is_named_and_costs_nothing_that_was_there() {
    let mut settings = settings(10, 1 << 20);
    settings.directory = Some("/nowhere/at/all".into());
    let mut spool = spool(settings);
    add_all(&mut spool, b"0123456789");
    let error = spool.add(b"more").unwrap_err().to_string();
    assert_eq!(error, "temporary file in /nowhere/at/all: No such file or directory (os error 2)");
    assert_eq!(read_all(&spool, &mut Reading::default()), b"0123456789");
    spool.give_up_file();
    add_all(&mut spool, b"more");
    assert_eq!(read_all(&spool, &mut Reading::default()), b"0123456789more");
}

#[test]
fn a_full_disk_is_an_error_and_what_is_there_can_be_read() {
    let mut spool = spool(settings(0, 1 << 20));
    add_all(&mut spool, b"on the disk");
    // Every write to this device fails as one to a full disk does; what was written cannot be read
    // from it either.
    let real = spool.file.replace(File::options().write(true).open("/dev/full").unwrap());
    let error = spool.add(b"more").unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    spool.file = real;
    assert_eq!(read_all(&spool, &mut Reading::default()), b"on the disk");
}

#[test]
fn without_its_file_it_never_holds_nothing() {
    let mut spool = spool(settings(0, 1 << 20));
    add_all(&mut spool, b"in the file");
    spool.give_up_file();
    assert_eq!(spool.add(b"no room").unwrap(), 0, "the file comes first");
    let mut reading = Reading::default();
    assert_eq!(read_all(&spool, &mut reading), b"in the file");
    spool.forget(&mut reading);
    assert_eq!(spool.add(&pattern(BUFFER_SIZE + 1)).unwrap(), BUFFER_SIZE);
}
