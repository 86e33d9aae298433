//! `rules NAME…`: proves rules of the contract of lazy read, one function for each test, named
//! after its rule.
//!
//! `rules --break MUTANT NAME` runs one with a rule broken in the kernel, where that was built for
//! it. `rules --list` names them. What each is about, and which deliberate break it must notice, is
//! told by `rules_list.rs`. All of them also pass on Linux, the eager oracle: there the bytes,
//! counts and errors are checked, and what is only about laziness is not. Tests that need a file
//! server of their own do nothing there.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

mod ahead;
mod arguments;
mod change;
mod experiment;
mod fault;
mod holes;
mod kit;
mod lazy;
mod leak;
mod memory;
mod os;
mod read;
#[path = "../../rules_list.rs"]
mod rules_list;
mod safety;
mod scripted;
mod sharing;
mod space;
mod stack;
mod thread;
mod trace;
mod traffic;
mod vectored;
mod wrapper;
mod write;
mod written;

use kit::Outcome;
use user::prelude::*;

program!(run);

macro_rules! tests {
    ($($module:ident: $($name:ident)*;)*) => {
        const TESTS: &[(&str, fn() -> Outcome)] = &[$($((stringify!($name), $module::$name),)*)*];
    };
}

tests! {
    read: r1_one_instant r1_one_instant_under_writes r1_fragments_in_the_same_reply r2_count r2_position_lock r3_nothing_past_n r4_any_offset
        r5_errors_as_eager r5_space_changes_meanwhile r6_reread r7_frames_are_never_written r8_fallback r8_refused r8_short_of_memory;
    holes: r10_holes r10_many_holes r10_hole_written_over;
    ahead: r1_small_reads_in_order r1_small_reads_among_changes q1_reading_ahead_takes_no_room;
    vectored: r9_one_call_one_snapshot r9_small_parts r9_counts;
    change: c1_overwrite c2_truncate c3_remove c4_rename_over c5_open_truncate c6_punch c7_append_rename_close c8_versions c10_gone_on_close
        c11_ordered;
    fault: f1_load f2_store f3_one_fetch f3_fetch_outlives_its_starter f3_generation f4_kernel_access f4_nothing_consumed
        f4_no_lock_while_waiting f5_page_in_error f5_error_is_not_kept f7_killable f7_no_eintr;
    wrapper: c7_no_rescue c8_one_rescue c9_nothing_for_nothing c10_rescue_is_freed r10_holes_need_no_room q1_reservation q1_failed_rescue
        q4_limits q4_regions q4_out_of_memory;
    space: a1_fork_shares a2_exec_arguments a3_exit_releases a4_split a8_write_protected;
    arguments: x4_arguments_once x4_vector_is_taken_at_the_start;
    safety: x1_rights_at_read x2_handles_are_the_kernels x5_lies x5_twice_late_unasked x5_garbage x5_server_dies x6_times
        x5_hostile_arguments;
    write: w1_references w1_vectors w2_same_place w3_shifted_overlap w4_other_file w5_elsewhere w6_append w7_effects;
    written: w8_after_write w8_again w8_shared w8_evicted w8_store_meanwhile w8_space_changes_meanwhile w8_short_write w8_many_messages w8_pays w8_vectors;
    memory: q2_pressure q2_last_reference q3_swap q3_file_larger_than_memory q3_fork q3_dirty_lazy q3_slots_are_freed q4_swap_is_full f8_under_pressure f8_marks;
    sharing: a5_shared_frames a6_program_overwritten a7_debugger x3_asked_once;
    leak: x5_nothing_leaks;
    traffic: e3_relay_agrees w2_one_page_moves w4_no_byte_moves;
    trace: e4_trace_tells_each_read;
    experiment: e1_block_size e1_knobs e2_differential e3_counters;
}

fn run(args: &Args) -> i32 {
    let names = args.get(1..).unwrap_or_default();
    if names.first() == Some(&space::EXEC_TARGET.as_bytes()) {
        return space::exec_target(args);
    }
    let names = match names {
        [option, names @ ..] if *option == sharing::LATE.as_bytes() => {
            sharing::wait_for_go();
            names
        }
        names => names,
    };
    if names == [b"--list"] {
        for rules_list::RuleTest { name, doc, mutants, memory_mib, timeout_s, log } in
            rules_list::TESTS
        {
            println!(
                "{name} ({memory_mib} MiB, {timeout_s} s): {doc}; notices {}",
                mutants.join(" ")
            );
            log.iter().for_each(|line| println!("    in the log: {line}"));
        }
        return 0;
    }
    if names.is_empty() {
        eprintln!("usage: rules NAME… | --all | --list");
        return 2;
    }
    lazy::load_program();
    // Most tests look at a few pages: reads of so few are copied otherwise, since most programs
    // look at all of them.
    if lazy::present()
        && let Err(failure) = lazy::write_text("/proc/sys/lazy/min_lazy_pages", "2")
    {
        eprintln!("rules: {failure}");
        return 2;
    }
    let names = match names {
        [option, mutant, names @ ..] if *option == b"--break" => {
            if let Err(failure) = break_rule(mutant) {
                eprintln!("rules: {failure}");
                return 2;
            }
            names
        }
        names => names,
    };
    let all = names == [b"--all"];
    let mut failed = false;
    for (name, test) in TESTS.iter().filter(|(name, _)| all || names.contains(&name.as_bytes())) {
        println!("{name}");
        if let Err(failure) = test() {
            eprintln!("{name}: FAILED: {failure}");
            failed = true;
        }
    }
    for name in names
        .iter()
        .filter(|name| !all && TESTS.iter().all(|(known, _)| known.as_bytes() != **name))
    {
        eprintln!("rules: no test `{}`", name.escape_ascii());
        failed = true;
    }
    let _: sys::Result<()> = sys::rmdir(kit::directory().as_bytes());
    failed.into()
}

/// Puts a deliberate break of a rule in force in the kernel, and says so.
fn break_rule(mutant: &[u8]) -> Outcome {
    const KNOB: &str = "/proc/sys/lazy/mutant";
    lazy::write_text(KNOB, &String::from_utf8_lossy(mutant))?;
    println!("{}", lazy::read_text(KNOB)?.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_and_the_functions_agree() {
        let mut listed: Vec<&str> = rules_list::TESTS.iter().map(|test| test.name).collect();
        let mut written: Vec<&str> = TESTS.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        written.sort_unstable();
        assert_eq!(listed, written);
    }

    #[test]
    fn mutants_exist() {
        for mutant in rules_list::TESTS.iter().flat_map(|test| test.mutants) {
            assert!(foundation::mutant::Mutant::from_name(mutant).is_some(), "{mutant}");
        }
    }
}
