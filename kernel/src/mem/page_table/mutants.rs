//! Wrong code of page tables for testing the tests. Without the feature `mutants`, nothing of it is
//! compiled.
#![forbid(unsafe_code)]

foundation::mutant_switches! {
    pub(super),
    /// A8: a fork leaves stores possible to pages whose tables are shared.
    share_writable: ShareWritable;
    /// A8: stores become possible to pages around one although others hold their frames.
    stores_around_shared: StoresAroundShared;
    /// A8: a server can still store to the pages that it has handed over with a reply.
    lend_writable: LendWritable;
    /// A8: unmapping a page empties its entry in a table that others share.
    unmap_shared: UnmapShared;
}
