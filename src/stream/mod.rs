//! CONTRACT STUB: room `stream/`.
