//! CONTRACT STUB: room `lab/`.
