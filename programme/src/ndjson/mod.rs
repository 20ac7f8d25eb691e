//! Bulk bodies, line by line: JSON kept with its duplicate keys ([`node`]), read field by field
//! ([`fields`]), into regions, centres and sessions ([`lines`]).

mod fields;
mod lines;
mod node;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use lines::WindowLine;
pub(crate) use lines::{CentreLine, Checks, RegionLine, SessionLine, centres, regions, sessions};
