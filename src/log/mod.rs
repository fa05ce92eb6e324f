//! CONTRACT STUB: room `log/`.
