//! Frames that one worker passes on to another. An inspected connection is its owner's alone, but
//! what the server sends may come by another worker's queue.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Frames under way at once, at most, between all workers.
const MOST: usize = 4096;

/// A frame, and the interface that it came in by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Index of the interface.
    pub interface: u32,
    /// The frame as it came.
    pub frame: Vec<u8>,
}

/// What waits for each worker. While nothing does, nobody takes a lock.
#[derive(Debug, Default)]
pub struct Mail {
    waiting: AtomicUsize,
    boxes: Mutex<HashMap<u16, Vec<Letter>>>,
}

impl Mail {
    /// Leaves a frame for a worker. False if too many wait already.
    pub fn send(&self, worker: u16, letter: Letter) -> bool {
        let mut boxes = self.lock();
        let has_room = self.waiting.load(Ordering::Relaxed) < MOST;
        if has_room {
            boxes.entry(worker).or_default().push(letter);
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Takes what waits for a worker, in the order in which it was sent.
    pub fn take(&self, worker: u16) -> Vec<Letter> {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let letters = self.lock().get_mut(&worker).map(mem::take).unwrap_or_default();
        self.waiting.fetch_sub(letters.len(), Ordering::Relaxed);
        letters
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Vec<Letter>>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(number: u8) -> Letter {
        Letter { interface: 1, frame: vec![number] }
    }

    #[test]
    fn each_worker_gets_its_own_in_order() {
        let mail = Mail::default();
        for (worker, number) in [(1, 1), (2, 2), (1, 3)] {
            assert!(mail.send(worker, letter(number)));
        }
        assert_eq!(mail.take(0), []);
        assert_eq!(mail.take(1), [letter(1), letter(3)]);
        assert_eq!(mail.take(1), []);
        assert_eq!(mail.take(2), [letter(2)]);
    }

    #[test]
    fn no_more_than_the_bound_wait() {
        let mail = Mail::default();
        let sent = (0..MOST).all(|_| mail.send(1, letter(0)));
        assert!(sent && !mail.send(2, letter(0)));
        assert_eq!(mail.take(1).len(), MOST);
        assert!(mail.send(2, letter(0)));
    }
}
