//! The servers of the simulation: `snapfs` over `memfs`, as they are.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender};

use fsproto::{HEAD_BYTES, Time};
use fsserver::memfs::{AccessTimes, Memfs};
use fsserver::snapfs::Snapfs;
use fsserver::{Client, Clock, Dispatcher, LocalClient};

struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Time {
        Time(0)
    }
}

/// Serves requests, with room for so many pages of file bytes, until nobody sends any.
pub fn run(capacity_pages: u64, requests: &Receiver<([u8; HEAD_BYTES], Vec<u8>)>, replies: &SyncSender<([u8; HEAD_BYTES], Vec<u8>)>) {
    let base = Dispatcher::new(Memfs::new(capacity_pages * 4096, AccessTimes::Untouched, NoTime));
    let base = LocalClient::new(Rc::new(RefCell::new(base)));
    let wrapper = Dispatcher::new(Snapfs::new(base, NoTime).expect("memfs keeps removed files open"));
    let mut client = LocalClient::new(Rc::new(RefCell::new(wrapper)));
    let mut into = vec![0; fsproto::MAX_PAYLOAD];
    while let Ok((head, payload)) = requests.recv() {
        let (head, length) = client.call(&head, &[&payload], &mut into).expect("the dispatcher answers everything");
        if replies.send((head, into[..length].to_vec())).is_err() {
            return;
        }
    }
}
