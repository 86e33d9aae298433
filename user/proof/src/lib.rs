//! The library of the programs that test, measure and demonstrate Sloth: the test kit ([`kit`],
//! [`lazy`], [`os`], [`thread`], [`words`]), the registry of tests ([`registry`]), the kernel's
//! counters ([`counters`]), random system calls ([`stress`]), and reproducible random numbers
//! ([`random`]).
//!
//! The programs:
//!
//! | program | task |
//! |---|---|
//! | `tests` | what system calls do; each test passes on Linux too, which is the oracle |
//! | `rules` | the rules of the contract, one test or more each |
//! | `fsx` | random operations on a file, every byte compared |
//! | `demo` | the experiment |
//! | `bench`, `first`, `profit` | measurements |
//! | `memfs` | serves files in memory, for `bench` |
//! | `leaks` | runs a command and fails where it left something behind |
//! | `storm` | hostile processes of every kind, while a witness and a shell must go on |
//! | `ptyrun` | runs a program at a pseudo-terminal |
//! | `suiterun` | runs the programs of a foreign suite one after the other |

#![no_std]
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod counters;
pub mod kept;
pub mod kit;
pub mod lazy;
pub mod omitted;
pub mod os;
pub mod random;
pub mod registry;
pub mod stress;
pub mod thread;
pub mod words;

pub use guest_test::guest_test;
pub use linkme;
#[doc(hidden)]
pub use user::alloc::format;
