//! Why a connection cannot go on: the client does not keep to the protocol, so what follows has no meaning.

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NbdFault {
    /// Flags that the server did not offer.
    #[error("client flags {0:#x} were not offered: it is no NBD client, or a newer one that must keep to the offer")]
    ClientFlags(u32),
    /// An option that does not begin as options do.
    #[error("an option begins with {0:#x}: it is no NBD client")]
    OptionMagic(u64),
    /// An option with more data than any option has.
    #[error("option {option} has {len} bytes of data: it is no NBD client")]
    OptionLength {
        /// The option.
        option: u32,
        /// Its bytes.
        len: u32,
    },
    /// More options than a client needs.
    #[error("it sent {0} options and did not begin: the client has a fault")]
    OptionCount(u32),
    /// A client of the old negotiation sent another option than the name of an export.
    #[error("option {0} without fixed newstyle negotiation: the client is too old")]
    NotFixed(u32),
    /// The name of an export that is not here, in the option that knows no refusal.
    #[error("it asked for an export that is not here: leave the name of the export empty")]
    NoSuchExport,
    /// A request that does not begin as requests do.
    #[error("a request begins with {0:#x}: the client lost its place in the stream")]
    RequestMagic(u32),
}
