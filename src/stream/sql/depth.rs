//! How deep an expression is, told by its tokens: whoever plans, runs or drops a tree calls himself once a level, and a chain
//! (`a or b or c …`) is a tree as deep as it is long.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

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
        *self = Level { deepest: self.depth(), ..Level::default() };
    }
}

/// The token at which an expression is too deep. It may be less deep than it is counted here: each operator of a chain is a level.
pub(super) fn too_deep(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let mut levels = vec![Level::default()];
    for token in tokens {
        let (is_open, is_closed) = match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => (true, false),
            Token::RParen | Token::RBracket | Token::RBrace => (false, true),
            Token::Word(word) => (word.keyword == Keyword::CASE, word.keyword == Keyword::END),
            _ => (false, false),
        };
        if is_open {
            levels.push(Level::default());
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
        } else if let Some(level) = levels.last_mut() {
            count(level, &token.token);
        }
        if levels.iter().map(Level::depth).sum::<usize>() > DEPTH_MAX {
            return Some(token);
        }
    }
    None
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
            Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => {
                level.part();
            }
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
