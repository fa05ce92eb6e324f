//! Outputs that are neither tables nor topics: web addresses, files of lines, pictures.

mod files;
mod http;
mod receiver;

use super::*;
