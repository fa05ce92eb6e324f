//! CONTRACT STUB: door `http/`.
