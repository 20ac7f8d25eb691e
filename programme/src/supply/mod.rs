//! Supply: how what there is of a product is shared out.

pub mod plan;
