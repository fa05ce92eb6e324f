//! The only wiring. CONTRACT STUB.
