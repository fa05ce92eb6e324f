//! How deep an expression is, told by its tokens: whoever plans, runs or drops a tree calls himself once a level, and a chain
//! (`a or b or c …`) is a tree as deep as it is long.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::collections::HashSet;

/// As deep as an expression may be. A level takes some 4 KiB of the stack to plan, and 20 KiB in a build without optimisation.
pub(super) const DEPTH_MAX: usize = 300;

/// What stands between two brackets, so far.
#[derive(Default)]
struct Level {
    /// The deepest of the parts between commas.
    deepest: usize,
    /// `and` and `or` of this part.
    links: usize,
    /// The deepest of what they link.
    linked: usize,
    /// Other operators since the last of them, and the deepest brackets.
    operators: usize,
    inner: usize,
    /// The brackets are `case` and `end`.
    is_case: bool,
}

impl Level {
    fn link(&mut self) {
        self.linked = self.linked.max(self.operators + self.inner);
        (self.operators, self.inner) = (0, 0);
        self.links += 1;
    }

    fn depth(&self) -> usize {
        self.deepest.max(self.links + self.linked.max(self.operators + self.inner))
    }

    fn part(&mut self) {
        *self = Level { deepest: self.depth(), is_case: self.is_case, ..Level::default() };
    }
}

/// The token at which an expression is too deep. It may be less deep than it is counted here: each operator of a chain is a level.
pub(super) fn too_deep(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let mut levels = vec![Level::default()];
    let (mut before, mut clauses) = (None, HashSet::new());
    for token in tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))) {
        let (is_open, is_closed) = match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => (true, false),
            Token::RParen | Token::RBracket | Token::RBrace => (false, true),
            Token::Word(word) => (word.keyword == Keyword::CASE, word.keyword == Keyword::END),
            _ => (false, false),
        };
        if is_open {
            levels.push(Level { is_case: matches!(token.token, Token::Word(_)), ..Level::default() });
        } else if is_closed {
            let inner = levels.pop().map_or(0, |level| level.depth() + 1);
            // One bracket too many is the parser's to tell.
            if levels.is_empty() {
                levels.push(Level::default());
            }
            if let Some(level) = levels.last_mut() {
                // A list or a call behind the other, `a[1][2]`, holds the first.
                level.operators += 1;
                level.inner = level.inner.max(inner);
            }
        } else {
            let is_outside = levels.len() == 1;
            if let Some(level) = levels.last_mut() {
                match begins_part(&token.token, before, level.is_case, is_outside.then_some(&mut clauses)) {
                    true => level.part(),
                    false => count(level, &token.token),
                }
            }
        }
        before = Some(&token.token);
        if levels.iter().map(Level::depth).sum::<usize>() > DEPTH_MAX {
            return Some(token);
        }
    }
    None
}

/// Whether a word stands where it begins a part of its own, and is no name as in `a + when`. Of what a query has once the first does: `clauses`
/// are those that it had, where this is no bracket.
fn begins_part(token: &Token, before: Option<&Token>, is_case: bool, clauses: Option<&mut HashSet<Keyword>>) -> bool {
    let Token::Word(word) = token else { return false };
    match word.keyword {
        Keyword::WHEN | Keyword::THEN | Keyword::ELSE => is_case && before.is_none_or(ends_operand),
        Keyword::SELECT | Keyword::FROM | Keyword::WHERE => {
            before.is_none_or(ends_operand) && clauses.is_some_and(|clauses| clauses.insert(word.keyword))
        }
        _ => false,
    }
}

/// Whether no operand follows: what stands there is one, or the end of one.
fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::TO
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::BETWEEN
                | Keyword::ZONE
                | Keyword::COLLATE
                | Keyword::DIV
                | Keyword::INTERVAL
                | Keyword::DISTINCT
                | Keyword::FROM
        ),
        Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => true,
        Token::RParen | Token::RBracket | Token::RBrace => true,
        _ => false,
    }
}

/// The token at which a query begins within this one: each would be tried in several ways before it is refused.
pub(super) fn inner_query(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let (mut before, mut level, mut is_in_from) = (&Token::EOF, 0_usize, false);
    for token in tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))) {
        let is_behind = |keyword: Keyword| matches!(before, Token::Word(word) if word.keyword == keyword);
        match &token.token {
            Token::LParen if is_in_from => return Some(token),
            Token::LParen => level += 1,
            Token::RParen => level = level.saturating_sub(1),
            Token::Word(word) => match word.keyword {
                Keyword::SELECT | Keyword::WITH | Keyword::FROM if *before == Token::LParen => return Some(token),
                Keyword::FROM if level == 0 && !is_behind(Keyword::DISTINCT) => is_in_from = true,
                Keyword::WHERE if level == 0 => is_in_from = false,
                _ => {}
            },
            _ => {}
        }
        before = &token.token;
    }
    None
}

fn count(level: &mut Level, token: &Token) {
    match token {
        Token::Comma => level.part(),
        Token::Word(word) => match word.keyword {
            Keyword::AND | Keyword::OR | Keyword::XOR => level.link(),
            Keyword::NOT
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::BETWEEN
            | Keyword::AT
            | Keyword::COLLATE
            | Keyword::DIV => level.operators += 1,
            // Intervals, and types of types: the parser does not count how deep it is in them, and a level takes more of the stack.
            Keyword::INTERVAL
            | Keyword::LOWCARDINALITY
            | Keyword::MAP
            | Keyword::NESTED
            | Keyword::NULLABLE
            | Keyword::STRUCT
            | Keyword::TABLE
            | Keyword::TUPLE
            | Keyword::UNION => level.operators += 10,
            _ => {}
        },
        Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::Whitespace(_) => {}
        Token::EOF => {}
        _ => level.operators += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_sql::sqlparser::dialect::GenericDialect;
    use datafusion_sql::sqlparser::tokenizer::Tokenizer;

    fn is_deep(sql: &str) -> bool {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        too_deep(&tokens).is_some()
    }

    #[test]
    fn chains_count_and_lists_do_not() {
        let chain = |part: &str, link: &str, count: usize| vec![part; count].join(link);
        for (part, link) in [("n > 1", " and "), ("a = 'x'", " OR "), ("a", "||"), ("n", " + "), ("a is null", " or ")]
        {
            assert!(is_deep(&chain(part, link, 400)), "{part}{link}");
            assert!(!is_deep(&chain(part, link, 250)), "{part}{link}");
        }
        assert!(is_deep(&format!("a{}", "[1]".repeat(400))) && is_deep(&format!("a{}", "::text".repeat(400))));
        assert!(!is_deep(&format!("a in ({})", chain("'x'", ", ", 50_000))));
        assert!(!is_deep(&format!("select {}", chain("a || b as c", ", ", 1_000))));
        assert!(!is_deep(&format!("case {} end", chain("when a = 1 and b then c + 1", " ", 1_000))));
        assert!(!is_deep(&format!("{} and f({})", chain("n > 1", " and ", 200), chain("1", ",", 1_000))));
    }

    #[test]
    fn words_of_clauses_are_names_where_an_operand_is_due() {
        for word in ["select", "from", "where", "when", "then", "else"] {
            for part in
                ["(x) -> W ", "x or W ", "x at time zone W ", "x is distinct from W ", "not W ", "x collate W ", "W + "]
            {
                let chain = part.replace('W', word).repeat(700);
                assert!(is_deep(&chain) && is_deep(&format!("case when {chain} then 1 end")), "{part}{word}");
            }
        }
        let chain = vec!["a"; 250].join(" + ");
        assert!(!is_deep(&format!("select {chain} as b from rows where {chain} > 1")));
        assert!(!is_deep(&format!("case {chain} when {chain} then {chain} else {chain} end")));
    }

    #[test]
    fn queries_within_are_found() {
        let at = |sql: &str| {
            let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
            inner_query(&tokens).map(|token| token.span.start.column)
        };
        assert_eq!(at("select a from ((((x"), Some(15));
        assert_eq!(at("select a from rows, (x)"), Some(21));
        assert_eq!(at("a in ( select b from c)"), Some(8));
        for right in [
            "select a from rows where (a > 1)",
            "extract(year from (ts)) > 1",
            "a is distinct from (b)",
            "select trim(both ' ' from a) as a, (b) as b",
            "a in ((1), (2))",
        ] {
            assert_eq!(at(right), None, "{right}");
        }
    }

    #[test]
    fn what_is_nested_adds_up() {
        let nested = |count: usize, chain: usize| {
            let chain = " + 1".repeat(chain);
            format!("{}n{}", "(".repeat(count), format!("{chain})").repeat(count))
        };
        assert!(is_deep(&nested(40, 20)) && !is_deep(&nested(40, 4)));
        let cases = |count: usize| format!("{}1{}", "case when a then ".repeat(count), " + 1 end".repeat(count));
        assert!(is_deep(&cases(200)) && !is_deep(&cases(50)));
        assert!(!is_deep("))) n > 1"));
        assert!(is_deep(&"interval ".repeat(40)) && is_deep(&"map(".repeat(40)) && !is_deep(&"map(".repeat(20)));
    }
}
