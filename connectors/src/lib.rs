//! Connectors and formats: what brings records in from outside and generators that make them up. Depends on
//! `eddyline-common` only; knows nothing of cuts, jobs, views or SQL text. The contract is
//! `eddyline_common::connector`, the options are `eddyline_common::options`.

pub mod format;
