#!/bin/sh
# RUSTC_WRAPPER of tests/fuzz.sh: gives libFuzzer's coverage to what decodes, and leaves the rest as it is. Instrumenting arrow and the
# SQL planner too would cost an hour of compiling and slow every run.
rustc=$1
shift
case " $* " in
*" --crate-name inrush "* | *" --crate-name lz4_flex "* | *" --crate-name snap "* | *" --crate-name kafka_protocol "* | *" --crate-name imagesize "* | *" --crate-name woothee "* | *" --crate-name toml_edit "* | *" --crate-name httparse "*)
  exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
  ;;
esac
exec "$rustc" "$@"
