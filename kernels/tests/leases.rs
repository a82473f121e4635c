//! Leases of a page's rows, in all orders of what several threads do: nobody reads what another writes, and what was
//! found written stays as it is.
//!
//! Rows are loom's cells here, which tell of every access that is not in order with another.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(unsafe_code, reason = "loom looks at every access")]

use loom::sync::atomic;

#[path = "../src/attention/written.rs"]
mod written;

use loom::{cell::UnsafeCell, sync::Arc, thread};

use self::written::Written;

const ROWS: usize = 3;

struct Page {
    written: Written,
    rows: [UnsafeCell<usize>; ROWS],
}

impl Page {
    /// With the first row written.
    fn new() -> Arc<Self> {
        let page = Self { written: Written::leased(), rows: std::array::from_fn(|_| UnsafeCell::new(0)) };
        page.write(0, 7);
        page.written.give_back(1);
        Arc::new(page)
    }

    fn write(&self, row: usize, value: usize) {
        // SAFETY: loom looks.
        self.rows[row].with_mut(|row| unsafe { *row = value });
    }

    fn read(&self, row: usize) -> usize {
        // SAFETY: loom looks.
        self.rows[row].with(|row| unsafe { *row })
    }

    /// Writes behind the first `rows` where nobody else does: how many rows are its own then, or those that a
    /// copy has.
    fn go_on(&self, rows: usize, value: usize) -> Option<usize> {
        if !self.written.lease(rows) {
            self.check(rows);
            return None;
        }
        // A holder reads all there is, as whole panels are read.
        (0..ROWS).for_each(|row| assert!(self.read(row) < 100));
        self.write(rows, value);
        assert_eq!(self.read(rows), value, "nobody else writes here");
        self.written.give_back(rows + 1);
        Some(rows + 1)
    }

    /// Rows that are written are there, and have not changed.
    fn check(&self, known: usize) {
        let rows = self.written.rows();
        assert!(rows >= known);
        assert_eq!(self.read(0), 7);
        (1..rows).for_each(|row| assert!(self.read(row) > 7));
    }
}

#[test]
fn of_three_who_go_on_one_writes_and_the_others_copy() {
    loom::model(|| {
        let page = Page::new();
        let others = [10, 20].map(|value| {
            let page = Arc::clone(&page);
            thread::spawn(move || page.go_on(1, value))
        });
        let mine = page.go_on(1, 30);
        let theirs = others.map(|other| other.join().unwrap());
        assert_eq!([mine, theirs[0], theirs[1]].iter().flatten().count(), 1);
        page.check(2);
    });
}

#[test]
fn who_wrote_goes_on_while_others_read() {
    loom::model(|| {
        let page = Page::new();
        let writer = {
            let page = Arc::clone(&page);
            thread::spawn(move || page.go_on(1, 10).map(|rows| page.go_on(rows, 11)))
        };
        page.check(1);
        page.check(1);
        assert_eq!(writer.join().unwrap(), Some(Some(ROWS)));
        page.check(ROWS);
    });
}

#[test]
fn an_abandoned_lease_harms_nobody() {
    loom::model(|| {
        let page = Page::new();
        assert!(page.written.lease(1));
        let abandoned = {
            let page = Arc::clone(&page);
            thread::spawn(move || (1..ROWS).for_each(|row| page.write(row, 99)))
        };
        assert_eq!(page.go_on(1, 10), None);
        page.check(1);
        abandoned.join().unwrap();
        assert_eq!(page.written.rows(), 1);
    });
}

#[test]
fn a_lease_given_back_with_nothing_written_is_the_next_ones() {
    loom::model(|| {
        let page = Page::new();
        let failed = {
            let page = Arc::clone(&page);
            thread::spawn(move || {
                if page.written.lease(1) {
                    page.write(1, 99);
                    page.written.give_back(1);
                }
            })
        };
        page.go_on(1, 10);
        failed.join().unwrap();
        let rows = page.written.rows();
        assert!(page.go_on(rows, 20).is_some());
        page.check(rows + 1);
    });
}
