//! CONTRACT STUB: door `kafka/`.
