//! CONTRACT STUB: room `config/`.
