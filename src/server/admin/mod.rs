//! CONTRACT STUB: door `admin/`.
