//! CONTRACT STUB: room `client/`.
