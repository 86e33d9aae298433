//! Calls whose claims for memory fail one by one (Q8), in a kernel for tests (`FAIL_CLAIM`).

use super::Outcome;
use crate::kept::{LOOKS, differences, kept};
use crate::{check, ok};
use foundation::FAIL_CLAIM;
use user::prelude::*;

/// More than the claims of any call.
const MOST_CLAIMS: usize = 2000;
/// Bytes by which the kernel's heap varies: an entry of a table splits a node or does not.
const HEAP_SLACK_BYTES: u64 = 1024;

/// Whether the kernel can fail claims.
pub fn can_fail() -> bool {
    choose(0).is_ok()
}

/// Has claim `number` of this thread fail from here on, 0 none. Returns how many were counted since
/// the last time.
pub fn choose(number: usize) -> Result<usize> {
    sys::prctl(FAIL_CLAIM as u32, number, 0, 0, 0)
}

/// One attempt at a call, in which one claim fails.
pub struct Attempt {
    failing: usize,
    claims: usize,
}

impl Attempt {
    /// The number of the claim that fails.
    pub fn number(&self) -> usize {
        self.failing
    }

    /// From here on the claims of this thread count.
    pub fn begin(&self) {
        let _ = choose(self.failing);
    }

    /// The claims of the thread that began, and are made no more, count no longer.
    pub fn end(&mut self) {
        self.claims = choose(0).unwrap_or(0);
    }

    /// Makes the call.
    pub fn during<T>(&mut self, call: impl FnOnce() -> T) -> T {
        self.begin();
        let result = call();
        self.end();
        result
    }

    /// A child of which `call` is made, and whose claims count until it has ended. Its status is 0
    /// or the number of the error.
    pub fn in_child(&mut self, call: impl FnOnce() -> Result<()>) -> Outcome<Result<()>> {
        let Some(child) = ok!(sys::fork()) else {
            self.begin();
            sys::exit(call().map_or_else(|error| i32::from(error.0), |()| 0))
        };
        let status = ok!(sys::wait_for(child));
        self.end();
        match status.exit_code() {
            Some(0) => Ok(Ok(())),
            Some(error) => Ok(Err(Errno(error as u16))),
            None => Err(format!("the child was ended by signal {:?}", status.signal())),
        }
    }
}

/// A call, with what it needs before and after.
pub struct Case<'a> {
    /// The name, for reports.
    pub name: &'static str,
    /// The errors that it may return where a claim fails.
    pub errors: &'static [Errno],
    /// The call. The error of the outer result is that of a check.
    pub call: &'a dyn Fn(&mut Attempt) -> Outcome<Result<()>>,
}

impl Case<'_> {
    fn attempt(&self, failing: usize) -> Outcome<(Result<()>, usize)> {
        let mut attempt = Attempt { failing, claims: 0 };
        let result = (self.call)(&mut attempt)
            .map_err(|failure| format!("{}, claim {failing} fails: {failure}", self.name))?;
        Ok((result, attempt.claims))
    }

    /// Makes the call with its first claim failing, its second, and so on, until it makes fewer
    /// claims. Where it returns an error, it must succeed afterwards. Returns how many failed.
    fn each_claim(&self) -> Outcome<usize> {
        for failing in 1..MOST_CLAIMS {
            let (result, claims) = self.attempt(failing)?;
            let what = format!("{}, claim {failing} of {claims}", self.name);
            let is_met = claims < failing;
            if let Err(error) = result {
                check!(!is_met, "{what}: {error:?} without a failure");
                check!(self.errors.contains(&error), "{what}: {error:?} is not declared");
                let (again, _) = self.attempt(usize::MAX)?;
                check!(again.is_ok(), "{what}: {error:?}, and then {again:?}");
            }
            if is_met {
                return Ok(failing - 1);
            }
        }
        Err(format!("{}: the claims have no end", self.name))
    }
}

/// Carries out each case, and checks that nothing is lost. Returns how many claims failed.
pub fn each(cases: &[Case<'_>]) -> Outcome<usize> {
    let mut sum = 0;
    for case in cases {
        // Lists of the kernel keep what they grow to.
        case.each_claim()?;
        let before = kept();
        let claims = case.each_claim()?;
        let lost = || differences(&before, &kept(), HEAP_SLACK_BYTES);
        // A process that ended releases the last when another one runs.
        let mut left = lost();
        for _ in 0..LOOKS {
            if left.is_empty() {
                break;
            }
            ok!(sys::sched_yield());
            left = lost();
        }
        check!(left.is_empty(), "{}: {}", case.name, left.join(", "));
        println!("{}: {claims} claims", case.name);
        sum += claims;
    }
    Ok(sum)
}
