//! The dialect of pipeline files: the parser's generic one, and an end to its patience.
//!
//! Where the parser cannot go on, it goes back and reads the same words another way: `a.b` as an expression, then as a name; `cast(` as the
//! keyword, then as a function. Where such things stand within each other and something behind them is wrong, each doubles the work, so that
//! a hundred bytes would take hours. So its attempts are counted.

use datafusion_sql::sqlparser::ast::Expr as Ast;
use datafusion_sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Location;
use std::any::TypeId;
use std::cell::Cell;

/// Attempts that any text may take. A right one takes about one for each of its words.
const ATTEMPTS: usize = 10_000;
const ATTEMPTS_PER_TOKEN: usize = 16;

#[derive(Debug)]
pub(super) struct Patient {
    left: Cell<usize>,
    farthest: Cell<Option<Location>>,
}

impl Patient {
    pub(super) fn new(text: &str) -> Patient {
        // No token is shorter than a byte.
        let left = Cell::new(ATTEMPTS + ATTEMPTS_PER_TOKEN * text.len());
        Patient { left, farthest: Cell::new(None) }
    }

    /// Whether it tried too often.
    pub(super) fn is_lost(&self) -> bool {
        self.left.get() == 0
    }

    /// The farthest place that it came to.
    pub(super) fn farthest(&self) -> Location {
        self.farthest.get().unwrap_or(Location { line: 1, column: 1 })
    }
}

macro_rules! as_generic {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool {
            GenericDialect.$name()
        })*
    };
}

impl Dialect for Patient {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    /// Called wherever an expression may begin, before anything of it is read.
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Ast, ParserError>> {
        let here = parser.peek_token_ref().span.start;
        self.farthest.set(self.farthest.get().max(Some(here)));
        self.left.set(self.left.get().saturating_sub(1));
        // Another error would be taken for a reason to try once more.
        self.is_lost().then_some(Err(ParserError::RecursionLimitExceeded))
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        GenericDialect.is_delimited_identifier_start(letter)
    }

    fn is_identifier_start(&self, letter: char) -> bool {
        GenericDialect.is_identifier_start(letter)
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        GenericDialect.is_identifier_part(letter)
    }

    // All that the generic dialect of sqlparser 0.62 says otherwise than a dialect that says nothing.
    as_generic! {
        supports_unicode_string_literal
        supports_partition_by_after_order_by
        supports_array_join_syntax
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_left_associative_joins_without_parens
        supports_connect_by
        supports_match_recognize
        supports_pipe_operator
        supports_start_transaction_modifier
        supports_window_function_null_treatment_arg
        supports_dictionary_syntax
        supports_window_clause_named_window_reference
        supports_parenthesized_set_variables
        supports_select_wildcard_except
        support_map_literal_syntax
        allow_extract_custom
        allow_extract_single_quotes
        supports_extract_comma_syntax
        supports_create_view_comment_syntax
        supports_parens_around_table_factor
        supports_values_as_table_factor
        supports_create_index_with_clause
        supports_explain_with_utility_options
        supports_limit_comma
        supports_update_order_by
        supports_from_first_select
        supports_projection_trailing_commas
        supports_asc_desc_in_column_definition
        supports_try_convert
        supports_bitwise_shift_operators
        supports_comment_on
        supports_load_extension
        supports_named_fn_args_with_assignment_operator
        supports_struct_literal
        supports_empty_projections
        supports_nested_comments
        supports_multiline_comment_hints
        supports_user_host_grantee
        supports_string_escape_constant
        supports_array_typedef_with_brackets
        supports_match_against
        supports_set_names
        supports_comma_separated_set_assignments
        supports_filter_during_aggregation
        supports_select_wildcard_exclude
        supports_data_type_signed_suffix
        supports_interval_options
        supports_quote_delimited_string
        supports_select_wildcard_replace
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_optimize_table
        supports_install
        supports_detach
        supports_prewhere
        supports_with_fill
        supports_limit_by
        supports_interpolate
        supports_settings
        supports_select_format
        supports_comment_optimizer_hint
        supports_constraint_keyword_without_name
        supports_key_column_option
        supports_comma_separated_trim
        supports_cte_without_as
        supports_select_item_multi_column_alias
        supports_xml_expressions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_sql::sqlparser::keywords::ALL_KEYWORDS;

    /// Whether all of it could be read, and where the parser was lost.
    fn read(sql: &str) -> (bool, Option<Location>) {
        let dialect = Patient::new(sql);
        let parsed = Parser::new(&dialect).try_with_sql(sql).and_then(|mut parser| parser.parse_expr());
        (parsed.is_ok(), dialect.is_lost().then(|| dialect.farthest()))
    }

    /// As pipeline files are read: with room on the stack.
    fn with_room(test: fn()) {
        crate::work::planning_thread("parser".to_owned()).spawn(test).unwrap().join().unwrap();
    }

    #[test]
    fn a_mistake_behind_much_that_is_nested_is_told_soon_and_with_its_place() {
        with_room(|| {
            let (is_right, lost) = read(&format!("{}[e.1", ["a"; 40].join(".")));
            assert!(!is_right && lost.is_some_and(|place| place.column > 70), "{lost:?}");
            let (is_right, lost) = read(&format!("{}a as{}", "cast(".repeat(30), ")".repeat(30)));
            assert!(!is_right && lost.is_some_and(|place| place.column > 150), "{lost:?}");
        });
    }

    #[test]
    fn what_is_right_is_read_however_long() {
        with_room(|| {
            assert_eq!(read(&["a"; 40].join(".")), (true, None));
            assert_eq!(read(&format!("a in ({})", ["lower(cast(a.b.c as text))"; 5_000].join(", "))), (true, None));
            let nested = format!("{}a{}", "coalesce(cast(".repeat(12), " as text), x.y)".repeat(12));
            assert_eq!(read(&nested), (true, None));
        });
    }

    #[test]
    fn no_word_makes_it_try_for_ever() {
        with_room(|| {
            for word in ALL_KEYWORDS.iter().filter(|word| !["SELECT", "WITH"].contains(word)) {
                for shape in ["W ", "W(", "W x ", "W(x ", "x W ", "x W (", "W[", "W {x: ", "(x) -> W ", "x.W."] {
                    read(&format!("{})", shape.replace('W', word).repeat(30)));
                }
            }
        });
    }
}
