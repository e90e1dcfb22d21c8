//! Filters as text.
//!
//! ```text
//! or    := and ("or" and)*
//! and   := not ("and" not)*
//! not   := "not" not | "(" or ")" | term
//! term  := slave RANGE | type NAME | req RANGE | master ID | host ADDR | udp PORT | port N
//!        | link | cargo | bad | up | down | rx | tx
//! ```
//!
//! `&&`, `||` and `!` are read as `and`, `or` and `not`.

use super::{Expr, Term, names};
use std::str::FromStr;
use wire::MsgType;

/// The most terms of an expression: evaluation needs one bit for each.
pub const MAX_TERMS: usize = 64;

/// How deep parentheses and `not` may be nested.
pub const MAX_DEPTH: usize = 32;

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter: {what}, at character \
    {at}{}", if .text.is_empty() { String::new() } else { format!(" (\"{}\")", .text) })]
pub struct FilterError {
    /// The position, counted from 1.
    pub at: usize,
    /// The text at that position; empty at the end.
    pub text: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// A word, a parenthesis or an operator, and its position.
#[derive(Clone, Copy)]
struct Token<'a> {
    at: usize,
    text: &'a str,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut start = None;
    let end_word = |start: &mut Option<usize>, end: usize, tokens: &mut Vec<_>| {
        if let Some(at) = start.take() {
            tokens.push(Token { at, text: &text[at..end] });
        }
    };
    for (at, letter) in text.char_indices() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => end_word(&mut start, at, &mut tokens),
            '(' | ')' | '!' => {
                end_word(&mut start, at, &mut tokens);
                tokens.push(Token { at, text: &text[at..at + 1] });
            }
            _ => start = start.or(Some(at)),
        }
    }
    end_word(&mut start, text.len(), &mut tokens);
    tokens
}

struct Parser<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token<'a>>>,
    end: usize,
    terms: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, token: Option<Token<'a>>, what: impl Into<String>) -> FilterError {
        let (at, text) = token.map_or((self.end, ""), |token| (token.at, token.text));
        FilterError { at: at + 1, text: text.to_owned(), what: what.into() }
    }

    fn takes(&mut self, words: [&str; 2]) -> bool {
        self.tokens.next_if(|token| words.contains(&token.text)).is_some()
    }

    fn or(&mut self, depth: usize) -> Result<Expr, FilterError> {
        let mut expr = self.and(depth)?;
        while self.takes(["or", "||"]) {
            expr = Expr::Or(Box::new(expr), Box::new(self.and(depth)?));
        }
        Ok(expr)
    }

    fn and(&mut self, depth: usize) -> Result<Expr, FilterError> {
        let mut expr = self.not(depth)?;
        while self.takes(["and", "&&"]) {
            expr = Expr::And(Box::new(expr), Box::new(self.not(depth)?));
        }
        Ok(expr)
    }

    fn not(&mut self, depth: usize) -> Result<Expr, FilterError> {
        let token = self.tokens.next();
        if depth == MAX_DEPTH {
            return Err(self.error(token, format!("nested more than {MAX_DEPTH} deep")));
        }
        match token.map(|token| token.text) {
            Some("not" | "!") => Ok(Expr::Not(Box::new(self.not(depth + 1)?))),
            Some("(") => {
                let expr = self.or(depth + 1)?;
                match self.tokens.next() {
                    Some(Token { text: ")", .. }) => Ok(expr),
                    other => Err(self.error(other, "expected \")\", \"and\" or \"or\"")),
                }
            }
            _ => {
                let term = self.term(token)?;
                self.terms += 1;
                if self.terms > MAX_TERMS {
                    return Err(self.error(token, format!("more than {MAX_TERMS} terms")));
                }
                Ok(Expr::Term(term))
            }
        }
    }

    fn term(&mut self, token: Option<Token<'a>>) -> Result<Term, FilterError> {
        const TERMS: &str = "expected one of slave ID, type NAME, req ID, master ID, host ADDR, udp PORT, port N, \
            link, \
                             cargo, bad, up, down, rx, tx, not, (";
        Ok(match token.map(|token| token.text) {
            Some("slave") => {
                let (first, last) = self.argument("a slave id as 17, or a range as 0-99", range)?;
                Term::Slave(first, last)
            }
            Some("req") => {
                let (first, last) = self.argument("a request id as 0x100000000002a, or a range of them", range)?;
                Term::Req(first, last)
            }
            Some("type") => {
                let wanted = format!("a message type: {} or a number as 0x8001", names::all());
                Term::Type(self.argument(&wanted, |text| names::type_of(text).or_else(|| number(text).map(MsgType)))?)
            }
            Some("master") => Term::Master(self.argument("a master's id, below 65536", number)?),
            Some("host") => Term::Host(self.argument("an IP address", |text| text.parse().ok())?),
            Some("udp") => Term::Udp(self.argument("a UDP port of a peer", number)?),
            Some("port") => Term::Port(self.argument("a port of this process: 0 is the first --port", number)?),
            Some("link") => Term::Link,
            Some("cargo") => Term::Cargo,
            Some("bad") => Term::Bad,
            Some("up") => Term::Up,
            Some("down") => Term::Down,
            Some("rx") => Term::Rx,
            Some("tx") => Term::Tx,
            _ => return Err(self.error(token, TERMS)),
        })
    }

    fn argument<T>(&mut self, wanted: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, FilterError> {
        let token = self.tokens.next();
        let value = token.and_then(|token| read(token.text));
        value.ok_or_else(|| self.error(token, format!("expected {wanted}")))
    }
}

/// A number, decimal or with 0x.
fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16),
        Some(_) => return None,
        None if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse(),
        None => return None,
    };
    T::try_from(value.ok()?).ok()
}

fn range<T: TryFrom<u64> + PartialOrd + Copy>(text: &str) -> Option<(T, T)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

impl FromStr for Expr {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { tokens: tokens(text).into_iter().peekable(), end: text.len(), terms: 0 };
        let expr = parser.or(0)?;
        match parser.tokens.next() {
            None => Ok(expr),
            extra => Err(parser.error(extra, "expected \"and\", \"or\" or the end")),
        }
    }
}
