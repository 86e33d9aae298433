"""Runs a module of Python's own tests and prints one line for each test, without times.

usage: python_tests.py FOLDER MODULE [PATTERN...] < SKIPPED

FOLDER has the modules with tests. With patterns, only tests run whose names match one. Each line of standard input has the end of a test's name, or a
part of it with `*`, and the reason why the test is skipped.
"""

import fnmatch
import os
import sys
import unittest


class Result(unittest.TestResult):
    """Prints each result in one line, and the last line of an exception."""

    def show(self, test, word, error=None):
        text = ""
        if error is not None:
            lines = str(error[1]).strip().splitlines()
            text = f" {error[0].__name__}: {lines[0] if lines else ''}"
        print(f"{name_of(test)} ... {word}{text}", file=OUT, flush=True)

    def addSuccess(self, test):
        self.show(test, "ok")

    def addError(self, test, error):
        super().addError(test, error)
        self.show(test, "ERROR", error)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.show(test, "FAILED", error)

    def addSkip(self, test, reason):
        self.show(test, f"skipped: {reason}")

    def addExpectedFailure(self, test, error):
        self.show(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.show(test, "unexpected success")

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.show(subtest, "FAILED", error)


def name_of(test):
    """The name of a test without that of its module."""
    name = test.id()
    return name.split(".", 2)[-1] if name.startswith("test.") else name


def cases(suite):
    """The single tests of a suite."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def skips():
    """Pairs of a pattern and a reason."""
    for line in sys.stdin:
        if line.strip() and not line.startswith("#"):
            pattern, reason = line.split(None, 1)
            yield pattern.rstrip(":"), reason.strip()


def main():
    folder, module, *patterns = sys.argv[1:]
    listed = list(skips())
    import test

    # The modules import each other as parts of the package, and find their data by the path.
    test.__path__.append(folder)
    sys.path.append(folder)
    loaded = unittest.defaultTestLoader.loadTestsFromName(f"test.{module}")
    chosen = unittest.TestSuite()
    for case in cases(loaded):
        name = name_of(case)
        if patterns and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        reason = next((why for pattern, why in listed if fnmatch.fnmatch(name, "*" + pattern)), None)
        if reason is None:
            chosen.addTest(case)
        else:
            print(f"{name} ... left out: {reason}", file=OUT, flush=True)
    result = Result()
    chosen.run(result)
    print(f"{result.testsRun} tests", file=OUT, flush=True)


# Tests print, and close and replace the standard descriptors.
OUT = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)
main()
# Threads that a failed test left must not keep the process.
OUT.flush()
os._exit(0)
