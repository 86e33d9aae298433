//! The list of guest tests, as plain data: `tests` runs them, and xtask includes this very file to know what there is.
