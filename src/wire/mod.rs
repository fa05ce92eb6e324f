//! CONTRACT STUB: room `wire/`.
